module clients/go/v1_0_0

go 1.22

require (
	clients/go/checks v0.0.0
	cloud.google.com/go/spanner v1.0.0
	google.golang.org/api v0.9.0
	google.golang.org/genproto v0.0.0-20190911173649-1774047e7e51
	google.golang.org/grpc v1.21.1
)

require (
	cloud.google.com/go v0.46.2 // indirect
	github.com/BurntSushi/toml v0.3.1 // indirect
	github.com/golang/protobuf v1.3.2 // indirect
	github.com/googleapis/gax-go/v2 v2.0.5 // indirect
	github.com/hashicorp/golang-lru v0.5.1 // indirect
	github.com/jstemmer/go-junit-report v0.0.0-20190106144839-af01ea7f8024 // indirect
	go.opencensus.io v0.22.0 // indirect
	golang.org/x/exp v0.0.0-20190829153037-c13cbed26979 // indirect
	golang.org/x/lint v0.0.0-20190909230951-414d861bb4ac // indirect
	golang.org/x/net v0.0.0-20190620200207-3b0461eec859 // indirect
	golang.org/x/oauth2 v0.0.0-20190604053449-0f29369cfe45 // indirect
	golang.org/x/sys v0.0.0-20190624142023-c5567b49c5d0 // indirect
	golang.org/x/text v0.3.2 // indirect
	golang.org/x/tools v0.0.0-20190911174233-4f2ddba30aff // indirect
	google.golang.org/appengine v1.6.1 // indirect
	honnef.co/go/tools v0.0.1-2019.2.3 // indirect
)

replace clients/go/checks => ../checks
