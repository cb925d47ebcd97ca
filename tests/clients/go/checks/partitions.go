package checks

import (
	"context"
	"fmt"
	"sort"

	"cloud.google.com/go/spanner"
)

func partitionedQuery(ctx context.Context, w *workload) (Detail, error) {
	return w.executePartitions(ctx, func(tx *spanner.BatchReadOnlyTransaction) ([]*spanner.Partition, error) {
		return tx.PartitionQuery(ctx, spanner.Statement{
			SQL:    "SELECT * FROM Singers WHERE Plays >= @plays",
			Params: map[string]interface{}{"plays": int64(0)},
		}, spanner.PartitionOptions{MaxPartitions: 4})
	})
}

func partitionedRead(ctx context.Context, w *workload) (Detail, error) {
	return w.executePartitions(ctx, func(tx *spanner.BatchReadOnlyTransaction) ([]*spanner.Partition, error) {
		return tx.PartitionRead(ctx, "Singers", spanner.AllKeys(), w.singerColumns(), spanner.PartitionOptions{PartitionBytes: 10000})
	})
}

// executePartitions hands the partitions over as one process hands them to another: as bytes, to another client.
func (w *workload) executePartitions(ctx context.Context, split func(*spanner.BatchReadOnlyTransaction) ([]*spanner.Partition, error)) (Detail, error) {
	tx, err := w.client.BatchReadOnlyTransaction(ctx, spanner.StrongRead())
	if err != nil {
		return nil, fmt.Errorf("begin: %v", err)
	}
	defer tx.Cleanup(ctx)
	partitions, err := split(tx)
	if err != nil {
		return nil, fmt.Errorf("partition: %v", err)
	}
	id, err := tx.ID.MarshalBinary()
	if err != nil {
		return nil, err
	}

	worker, done, err := w.withClient(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	var there spanner.BatchReadOnlyTransactionID
	if err := there.UnmarshalBinary(id); err != nil {
		return nil, err
	}
	rows := []string{}
	for _, p := range partitions {
		bytes, err := p.MarshalBinary()
		if err != nil {
			return nil, err
		}
		var partition spanner.Partition
		if err := partition.UnmarshalBinary(bytes); err != nil {
			return nil, err
		}
		err = worker.client.BatchReadOnlyTransactionFromID(there).Execute(ctx, &partition).Do(func(row *spanner.Row) error {
			s, err := w.decodeSinger(row)
			rows = append(rows, s.String())
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("execute: %v", err)
		}
	}

	// Which rows fall into which partition is the server's choice.
	sort.Strings(rows)
	got, want := newDigest(), newDigest()
	for _, row := range rows {
		got.add(row)
	}
	for i := 0; i < singerCount; i++ {
		want.add(w.expectedSinger(i).String())
	}
	if got.sha() != want.sha() {
		return nil, fmt.Errorf("%d rows of %d partitions differ from the %d written", got.rows, len(partitions), want.rows)
	}
	return got.detail(), nil
}
