package checks

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"cloud.google.com/go/spanner"
)

// readWriteTransaction moves money between two accounts, with reads, a query, DML and buffered writes in one transaction.
func readWriteTransaction(ctx context.Context, w *workload) (Detail, error) {
	for id, balance := range map[string]int64{"transfer-from": 100, "transfer-to": 0} {
		if _, err := w.setBalance(ctx, id, balance); err != nil {
			return nil, err
		}
	}
	var seen int64
	committed, err := w.client.ReadWriteTransaction(ctx, func(ctx context.Context, tx *spanner.ReadWriteTransaction) error {
		from, err := balanceOf(ctx, tx, "transfer-from")
		if err != nil {
			return err
		}
		if _, err := tx.Update(ctx, spanner.NewStatement("UPDATE Accounts SET Balance = Balance + 30 WHERE AccountId = 'transfer-to'")); err != nil {
			return err
		}
		seen, err = scalar(tx.Query(ctx, spanner.NewStatement("SELECT Balance FROM Accounts WHERE AccountId = 'transfer-to'")))
		if err != nil {
			return err
		}
		return tx.BufferWrite([]*spanner.Mutation{spanner.Update("Accounts", []string{"AccountId", "Balance", "UpdatedAt"},
			[]interface{}{"transfer-from", from - 30, spanner.CommitTimestamp})})
	})
	if err != nil {
		return nil, err
	}
	row, err := w.client.Single().ReadRow(ctx, "Accounts", spanner.Key{"transfer-from"}, []string{"Balance", "UpdatedAt"})
	if err != nil {
		return nil, err
	}
	var from int64
	var updated time.Time
	if err := row.Columns(&from, &updated); err != nil {
		return nil, err
	}
	to, err := balanceOf(ctx, w.client.Single(), "transfer-to")
	if err != nil {
		return nil, err
	}
	if from != 70 || to != 30 || seen != 30 || !updated.Equal(committed) {
		return nil, fmt.Errorf("balances %d and %d (%d within the transaction), updated at %v, committed at %v", from, to, seen, updated, committed)
	}
	return Detail{"from": from, "to": to, "seen_within": seen, "updated_at_commit_timestamp": true}, nil
}

// transactionAbortsAndRetries has two transactions read and then write the same row. The second begins while the first
// holds the row, so one of them is aborted, whichever the server picks, and the library's retry loop runs it again.
func transactionAbortsAndRetries(ctx context.Context, w *workload) (Detail, error) {
	if _, err := w.setBalance(ctx, "contended", 0); err != nil {
		return nil, err
	}
	other, done, err := w.overlapping(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	var mu sync.Mutex
	attempts := 0
	add := func(w *workload, amount int64, afterRead func()) error {
		_, err := w.client.ReadWriteTransaction(ctx, func(ctx context.Context, tx *spanner.ReadWriteTransaction) error {
			mu.Lock()
			attempts++
			mu.Unlock()
			balance, err := balanceOf(ctx, tx, "contended")
			afterRead()
			if err != nil {
				return err
			}
			return tx.BufferWrite([]*spanner.Mutation{spanner.Update("Accounts",
				[]string{"AccountId", "Balance"}, []interface{}{"contended", balance + amount})})
		})
		return err
	}

	firstHolds, secondTried := make(chan struct{}), make(chan struct{})
	var firstOnce, secondOnce sync.Once
	second := make(chan error, 1)
	go func() {
		select {
		case <-firstHolds:
		case <-ctx.Done():
		}
		second <- add(other, 10, func() { secondOnce.Do(func() { close(secondTried) }) })
	}()
	firstErr := add(w, 1, func() {
		firstOnce.Do(func() { close(firstHolds) })
		select {
		case <-secondTried:
		case <-ctx.Done():
		}
	})
	secondErr := <-second
	if firstErr != nil || secondErr != nil {
		return nil, fmt.Errorf("first transaction: %v; second: %v", firstErr, secondErr)
	}
	balance, err := balanceOf(ctx, w.client.Single(), "contended")
	if err != nil {
		return nil, err
	}
	if balance != 11 || attempts < 3 {
		return nil, fmt.Errorf("balance %d after %d attempts, expected 11 after at least 3", balance, attempts)
	}
	return Detail{"balance": balance, "retried": true}, nil
}

func rollbackLeavesNoTrace(ctx context.Context, w *workload) (Detail, error) {
	if _, err := w.setBalance(ctx, "rolled-back", 1); err != nil {
		return nil, err
	}
	changedMyMind := errors.New("changed my mind")
	var within int64
	_, err := w.client.ReadWriteTransaction(ctx, func(ctx context.Context, tx *spanner.ReadWriteTransaction) (err error) {
		if _, err = tx.Update(ctx, spanner.NewStatement("UPDATE Accounts SET Balance = 2 WHERE AccountId = 'rolled-back'")); err != nil {
			return err
		}
		if within, err = scalar(tx.Query(ctx, spanner.NewStatement("SELECT Balance FROM Accounts WHERE AccountId = 'rolled-back'"))); err != nil {
			return err
		}
		return changedMyMind
	})
	if !errors.Is(err, changedMyMind) {
		return nil, fmt.Errorf("the transaction returned %v, expected %v", err, changedMyMind)
	}
	// Had the rollback not arrived, its locks would still be held and this write would be aborted over and over.
	if _, err := w.setBalance(ctx, "after-rollback", 1); err != nil {
		return nil, fmt.Errorf("write after the rollback: %v", err)
	}
	balance, err := balanceOf(ctx, w.client.Single(), "rolled-back")
	if err != nil {
		return nil, err
	}
	if within != 2 || balance != 1 {
		return nil, fmt.Errorf("balance %d within and %d after the transaction, expected 2 and 1", within, balance)
	}
	return Detail{"within": within, "after": balance}, nil
}

func multiUseSnapshot(ctx context.Context, w *workload) (Detail, error) {
	if _, err := w.setBalance(ctx, "snapshot", 1); err != nil {
		return nil, err
	}
	other, done, err := w.overlapping(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	snapshot := w.client.ReadOnlyTransaction()
	defer snapshot.Close()
	before, err := balanceOf(ctx, snapshot, "snapshot")
	if err != nil {
		return nil, err
	}
	at, err := snapshot.Timestamp()
	if err != nil {
		return nil, err
	}
	committed, err := other.setBalance(ctx, "snapshot", 2)
	if err != nil {
		return nil, err
	}
	again, err := scalar(snapshot.Query(ctx, spanner.NewStatement("SELECT Balance FROM Accounts WHERE AccountId = 'snapshot'")))
	if err != nil {
		return nil, err
	}
	now, err := balanceOf(ctx, other.client.Single(), "snapshot")
	if err != nil {
		return nil, err
	}
	if before != 1 || again != 1 || now != 2 || !at.Before(committed) {
		return nil, fmt.Errorf("read %d, then %d at %v; %d now, written at %v", before, again, at, now, committed)
	}
	return Detail{"before": before, "again": again, "now": now, "snapshot_is_before_the_write": true}, nil
}

// staleGap lies between two writes. A stale read aims at staleAim after the first, so it may be late by the rest of the
// gap before it would see the second.
const (
	staleGap = 1500 * time.Millisecond
	staleAim = 200 * time.Millisecond
)

func staleRead(ctx context.Context, w *workload) (Detail, error) {
	first, err := w.setBalance(ctx, "stale", 1)
	if err != nil {
		return nil, err
	}
	// Only time makes a read stale.
	time.Sleep(staleGap)
	second, err := w.setBalance(ctx, "stale", 2)
	if err != nil {
		return nil, err
	}
	exact, err := balanceOf(ctx, w.client.Single().WithTimestampBound(spanner.ExactStaleness(time.Since(first)-staleAim)), "stale")
	if err != nil {
		return nil, fmt.Errorf("exact staleness: %v", err)
	}
	time.Sleep(staleAim)
	bounded, err := balanceOf(ctx, w.client.Single().WithTimestampBound(spanner.MaxStaleness(staleAim/2)), "stale")
	if err != nil {
		return nil, fmt.Errorf("max staleness: %v", err)
	}
	atLeast, err := balanceOf(ctx, w.client.Single().WithTimestampBound(spanner.MinReadTimestamp(second)), "stale")
	if err != nil {
		return nil, fmt.Errorf("min read timestamp: %v", err)
	}
	if exact != 1 || bounded != 2 || atLeast != 2 {
		return nil, fmt.Errorf("exact staleness read %d, max staleness %d, min read timestamp %d; expected 1, 2, 2", exact, bounded, atLeast)
	}
	return Detail{"exact_staleness": exact, "max_staleness": bounded, "min_read_timestamp": atLeast}, nil
}

func exactTimeRead(ctx context.Context, w *workload) (Detail, error) {
	written := []time.Time{}
	for balance := int64(1); balance <= 3; balance++ {
		at, err := w.setBalance(ctx, "exact", balance)
		if err != nil {
			return nil, err
		}
		written = append(written, at)
	}
	read := []int64{}
	for i, at := range written {
		tx := w.client.Single().WithTimestampBound(spanner.ReadTimestamp(at))
		balance, err := balanceOf(ctx, tx, "exact")
		if err != nil {
			return nil, err
		}
		used, err := tx.Timestamp()
		if err != nil {
			return nil, err
		}
		if balance != int64(i+1) || !used.Equal(at) {
			return nil, fmt.Errorf("read %d at %v, expected %d at %v", balance, used, i+1, at)
		}
		read = append(read, balance)
	}
	return Detail{"read": read, "read_timestamp_is_the_one_asked_for": true}, nil
}
