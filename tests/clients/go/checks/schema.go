package checks

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"time"

	"cloud.google.com/go/spanner"
)

// singerCount rows are inserted by insertMutations. Later checks add and remove only rows with other keys.
const singerCount = 1000

func (w *workload) ddl() []string {
	info := ""
	if w.library.JSON != nil {
		info = "\n  Info JSON,"
	}
	return []string{
		`CREATE TABLE Singers (
  SingerId STRING(36) NOT NULL,
  Plays INT64,
  Rating FLOAT64,
  Active BOOL,
  Photo BYTES(MAX),
  Joined TIMESTAMP,
  Tags ARRAY<STRING(MAX)>,` + info + `
) PRIMARY KEY (SingerId)`,
		`CREATE INDEX SingersByPlays ON Singers(Plays)`,
		`CREATE TABLE Accounts (
  AccountId STRING(36) NOT NULL,
  Balance INT64 NOT NULL,
  UpdatedAt TIMESTAMP OPTIONS (allow_commit_timestamp=true),
) PRIMARY KEY (AccountId)`,
	}
}

// laterDDL runs after the tables exist.
var laterDDL = []string{`ALTER TABLE Singers ADD COLUMN Note STRING(MAX)`}

// singer is a row whose every value follows from its number.
type singer struct {
	id     string
	plays  spanner.NullInt64
	rating spanner.NullFloat64
	active spanner.NullBool
	photo  []byte
	joined spanner.NullTime
	tags   []string
	info   string
}

func singerID(i int) string { return fmt.Sprintf("singer-%05d", i) }

func singerNumber(i int) singer {
	s := singer{
		id: singerID(i),
		// A stride that shares no factor with the count gives an index order other than the key order, without duplicates.
		plays:  spanner.NullInt64{Int64: int64(i * 7919 % singerCount), Valid: true},
		rating: spanner.NullFloat64{Float64: float64(i) / 3, Valid: true},
		active: spanner.NullBool{Bool: i%2 == 0, Valid: true},
		photo:  []byte{0, byte(i), byte(i >> 8), 0xff},
		joined: spanner.NullTime{Time: time.Date(2020, 1, 1, 0, i, 0, i*1000, time.UTC), Valid: true},
		tags:   []string{"tag", fmt.Sprintf("größe-%d", i), ""},
		info:   fmt.Sprintf(`{"label":"l%d","year":%d}`, i, 1950+i%70),
	}
	if i%10 == 9 {
		s.rating, s.active, s.photo, s.joined, s.tags = spanner.NullFloat64{}, spanner.NullBool{}, nil, spanner.NullTime{}, nil
	}
	return s
}

func (w *workload) singerColumns() []string {
	columns := []string{"SingerId", "Plays", "Rating", "Active", "Photo", "Joined", "Tags"}
	if w.library.JSON != nil {
		columns = append(columns, "Info")
	}
	return columns
}

func (w *workload) insertSinger(s singer) (*spanner.Mutation, error) {
	values := []interface{}{s.id, s.plays, s.rating, s.active, s.photo, s.joined, s.tags}
	if w.library.JSON != nil {
		info, err := w.library.JSON.Encode(s.info)
		if err != nil {
			return nil, err
		}
		values = append(values, info)
	}
	return spanner.Insert("Singers", w.singerColumns(), values), nil
}

// decodeSinger reads a row that has singerColumns.
func (w *workload) decodeSinger(row *spanner.Row) (singer, error) {
	var s singer
	targets := map[string]interface{}{
		"SingerId": &s.id, "Plays": &s.plays, "Rating": &s.rating, "Active": &s.active,
		"Photo": &s.photo, "Joined": &s.joined, "Tags": &s.tags,
	}
	for column, target := range targets {
		if err := row.ColumnByName(column, target); err != nil {
			return s, err
		}
	}
	if w.library.JSON != nil {
		var err error
		if s.info, err = w.library.JSON.Decode(row, "Info"); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (s singer) String() string {
	joined := "NULL"
	if s.joined.Valid {
		joined = s.joined.Time.UTC().Format(time.RFC3339Nano)
	}
	return fmt.Sprintf("%s|%v|%v|%v|%x|%s|%q|%s", s.id, s.plays, s.rating, s.active, s.photo, joined, s.tags, s.info)
}

// expectedSinger is singerNumber as a library without JSON columns reads it back.
func (w *workload) expectedSinger(i int) singer {
	s := singerNumber(i)
	if w.library.JSON == nil {
		s.info = ""
	}
	return s
}

// digest counts and checksums rows as they are streamed.
type digest struct {
	rows  int
	bytes int
	sum   io.Writer
	sha   func() string
}

func newDigest() *digest {
	h := sha256.New()
	return &digest{sum: h, sha: func() string { return hex.EncodeToString(h.Sum(nil)) }}
}

func (d *digest) add(row string) {
	d.rows++
	d.bytes += len(row)
	_, _ = io.WriteString(d.sum, row+"\n") // a hash never fails
}

func (d *digest) detail() Detail {
	return Detail{"rows": d.rows, "bytes": d.bytes, "sha256": d.sha()}
}

// digestSingers drains an iterator of singers.
func (w *workload) digestSingers(rows *spanner.RowIterator) (*digest, error) {
	d := newDigest()
	err := rows.Do(func(row *spanner.Row) error {
		s, err := w.decodeSinger(row)
		if err != nil {
			return err
		}
		d.add(s.String())
		return nil
	})
	return d, err
}

// firstColumn drains an iterator whose rows begin with a string.
func firstColumn(rows *spanner.RowIterator) ([]string, error) {
	values := []string{}
	err := rows.Do(func(row *spanner.Row) error {
		var v string
		if err := row.Column(0, &v); err != nil {
			return err
		}
		values = append(values, v)
		return nil
	})
	return values, err
}

// scalar runs a query of one integer.
func scalar(rows *spanner.RowIterator) (int64, error) {
	var n int64
	err := rows.Do(func(row *spanner.Row) error { return row.Column(0, &n) })
	return n, err
}

func (w *workload) count(ctx context.Context, sql string) (int64, error) {
	return scalar(w.client.Single().Query(ctx, spanner.NewStatement(sql)))
}

// setBalance creates or changes an account. Each check that needs one has an account of its own.
func (w *workload) setBalance(ctx context.Context, id string, balance int64) (time.Time, error) {
	return w.client.Apply(ctx, []*spanner.Mutation{spanner.InsertOrUpdate("Accounts",
		[]string{"AccountId", "Balance", "UpdatedAt"}, []interface{}{id, balance, spanner.CommitTimestamp})})
}

type rowReader interface {
	ReadRow(ctx context.Context, table string, key spanner.Key, columns []string) (*spanner.Row, error)
}

func balanceOf(ctx context.Context, reader rowReader, id string) (int64, error) {
	row, err := reader.ReadRow(ctx, "Accounts", spanner.Key{id}, []string{"Balance"})
	if err != nil {
		// Not wrapped: v1.0.0 tells an aborted transaction by the error's own type.
		return 0, err
	}
	var balance int64
	return balance, row.Column(0, &balance)
}

// sameStrings fails unless both lists are equal.
func sameStrings(what string, got, want []string) error {
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		return fmt.Errorf("%s: got %q, expected %q", what, got, want)
	}
	return nil
}
