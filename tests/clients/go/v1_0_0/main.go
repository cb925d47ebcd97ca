// Command v1_0_0 runs the checks with the client library's first stable release, of 2019.
package main

import (
	"context"
	"fmt"
	"os"

	"clients/go/checks"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: v1_0_0 PROJECT TRANSCRIPT")
		os.Exit(2)
	}
	admin, err := newAdmin(context.Background(), os.Getenv("SPANNER_EMULATOR_HOST"))
	if err != nil {
		fmt.Fprintf(os.Stderr, "admin clients: %v\n", err)
		os.Exit(1)
	}
	os.Exit(checks.Main(checks.Library{Variant: "go-2019", Admin: admin}, os.Args[1], os.Args[2]))
}
