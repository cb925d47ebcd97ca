package checks

import (
	"context"
	"fmt"
	"sync"

	"cloud.google.com/go/spanner"
	"google.golang.org/grpc/codes"
)

func readByKey(ctx context.Context, w *workload) (Detail, error) {
	found := []string{}
	for _, i := range []int{0, 9, 500, singerCount - 1} {
		row, err := w.client.Single().ReadRow(ctx, "Singers", spanner.Key{singerID(i)}, w.singerColumns())
		if err != nil {
			return nil, fmt.Errorf("read %s: %v", singerID(i), err)
		}
		s, err := w.decodeSinger(row)
		if err != nil {
			return nil, err
		}
		if want := w.expectedSinger(i).String(); s.String() != want {
			return nil, fmt.Errorf("read %s, expected %s", s, want)
		}
		found = append(found, s.String())
	}
	_, missing := w.client.Single().ReadRow(ctx, "Singers", spanner.Key{"nobody"}, w.singerColumns())
	if err := expectCode("read of a missing row", missing, codes.NotFound); err != nil {
		return nil, err
	}
	keys := spanner.KeySets(spanner.Key{singerID(3)}, spanner.Key{"nobody"}, spanner.Key{singerID(1)})
	several, err := firstColumn(w.client.Single().Read(ctx, "Singers", keys, []string{"SingerId"}))
	if err != nil {
		return nil, fmt.Errorf("read several keys: %v", err)
	}
	if err := sameStrings("several keys", several, []string{singerID(1), singerID(3)}); err != nil {
		return nil, err
	}
	return Detail{"rows": found, "several": several, "no_such_row": w.describe(missing)}, nil
}

func readByIndex(ctx context.Context, w *workload) (Detail, error) {
	columns := []string{"SingerId", "Plays"}
	keys := spanner.KeyRange{Start: spanner.Key{100}, End: spanner.Key{110}, Kind: spanner.ClosedOpen}
	ids, err := firstColumn(w.client.Single().ReadUsingIndex(ctx, "Singers", "SingersByPlays", keys, columns))
	if err != nil {
		return nil, err
	}
	want := make([]string, 10)
	for i := 0; i < singerCount; i++ {
		if plays := singerNumber(i).plays.Int64; plays >= 100 && plays < 110 {
			want[plays-100] = singerID(i)
		}
	}
	return Detail{"ids": ids}, sameStrings("ids in the index's order", ids, want)
}

func readKeyRangeWithLimit(ctx context.Context, w *workload) (Detail, error) {
	keys := spanner.KeyRange{Start: spanner.Key{singerID(200)}, End: spanner.Key{singerID(400)}, Kind: spanner.OpenClosed}
	ids, err := firstColumn(w.client.Single().ReadWithOptions(ctx, "Singers", keys, []string{"SingerId"}, &spanner.ReadOptions{Limit: 7}))
	if err != nil {
		return nil, err
	}
	want := []string{}
	for i := 201; i <= 207; i++ {
		want = append(want, singerID(i))
	}
	return Detail{"ids": ids}, sameStrings("ids", ids, want)
}

const (
	largeRows    = 12000
	largeMinimum = 10 << 20
)

// largeStreamedResult streams distinct rows of about 1 KB, so that neither a lost nor a doubled part goes unseen.
func largeStreamedResult(ctx context.Context, w *workload) (Detail, error) {
	statement := spanner.Statement{
		SQL: `SELECT n, CONCAT(TO_HEX(SHA256(CAST(n AS STRING))), REPEAT(CAST(n AS STRING), 200)) AS text
FROM UNNEST(GENERATE_ARRAY(100001, 100000 + @rows)) AS n ORDER BY n`,
		Params: map[string]interface{}{"rows": int64(largeRows)},
	}
	d := newDigest()
	err := w.client.Single().Query(ctx, statement).Do(func(row *spanner.Row) error {
		var n int64
		var text string
		if err := row.Columns(&n, &text); err != nil {
			return err
		}
		if want := int64(100001 + d.rows); n != want {
			return fmt.Errorf("row %d came instead of row %d", n, want)
		}
		d.add(text)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if d.rows != largeRows || d.bytes < largeMinimum {
		return nil, fmt.Errorf("%d rows, %d bytes came, expected %d and at least %d", d.rows, d.bytes, largeRows, largeMinimum)
	}
	return d.detail(), nil
}

const (
	readers        = 50
	readsPerReader = 20
)

func fiftyConcurrentReaders(ctx context.Context, w *workload) (Detail, error) {
	var all sync.WaitGroup
	failures := make(chan error, readers)
	start := make(chan struct{})
	for reader := 0; reader < readers; reader++ {
		all.Add(1)
		go func(reader int) {
			defer all.Done()
			<-start
			for read := 0; read < readsPerReader; read++ {
				if err := w.readOneSinger(ctx, reader*readsPerReader+read); err != nil {
					failures <- err
					return
				}
			}
		}(reader)
	}
	close(start)
	all.Wait()
	close(failures)
	if err, failed := <-failures; failed {
		return nil, fmt.Errorf("%d of %d readers failed, one with: %v", len(failures)+1, readers, err)
	}
	return Detail{"readers": readers, "reads": readers * readsPerReader}, nil
}

// readOneSinger reads even numbers by key and odd ones by a query.
func (w *workload) readOneSinger(ctx context.Context, i int) error {
	want := w.expectedSinger(i).String()
	if i%2 == 0 {
		row, err := w.client.Single().ReadRow(ctx, "Singers", spanner.Key{singerID(i)}, w.singerColumns())
		if err != nil {
			return err
		}
		s, err := w.decodeSinger(row)
		if err == nil && s.String() != want {
			err = fmt.Errorf("read %s, expected %s", s, want)
		}
		return err
	}
	ids, err := firstColumn(w.client.Single().Query(ctx, spanner.Statement{
		SQL:    "SELECT SingerId FROM Singers WHERE SingerId = @id",
		Params: map[string]interface{}{"id": singerID(i)},
	}))
	if err != nil {
		return err
	}
	return sameStrings("query", ids, []string{singerID(i)})
}
