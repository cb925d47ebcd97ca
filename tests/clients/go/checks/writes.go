package checks

import (
	"context"
	"fmt"
	"time"

	"cloud.google.com/go/spanner"
	"google.golang.org/grpc/codes"
)

func insertMutations(ctx context.Context, w *workload) (Detail, error) {
	mutations := make([]*spanner.Mutation, 0, singerCount)
	want := newDigest()
	for i := 0; i < singerCount; i++ {
		m, err := w.insertSinger(singerNumber(i))
		if err != nil {
			return nil, err
		}
		mutations = append(mutations, m)
		want.add(w.expectedSinger(i).String())
	}
	committed, err := w.client.Apply(ctx, mutations)
	if err != nil {
		return nil, err
	}
	if committed.IsZero() {
		return nil, fmt.Errorf("no commit timestamp")
	}
	got, err := w.digestSingers(w.client.Single().Read(ctx, "Singers", spanner.AllKeys(), w.singerColumns()))
	if err != nil {
		return nil, fmt.Errorf("read back: %v", err)
	}
	if got.sha() != want.sha() {
		return nil, fmt.Errorf("%d rows read back differ from the %d written", got.rows, want.rows)
	}
	return got.detail(), nil
}

// dmlInsertUpdateDeleteWithParameters leaves the table as it was: its rows are deleted again.
func dmlInsertUpdateDeleteWithParameters(ctx context.Context, w *workload) (Detail, error) {
	insert := spanner.Statement{
		SQL: `INSERT INTO Singers (SingerId, Plays, Rating, Active, Photo, Joined, Tags)
VALUES (@id, @plays, @rating, @active, @photo, @joined, @tags), (@id2, NULL, NULL, NULL, NULL, NULL, NULL)`,
		Params: map[string]interface{}{
			"id": "dml-1", "id2": "dml-2", "plays": int64(-1 << 62), "rating": 0.1, "active": true, "photo": []byte{0, 1, 0xfe},
			"joined": time.Date(1999, 12, 31, 23, 59, 59, 999999999, time.UTC), "tags": []string{"α", ""},
		},
	}
	update := spanner.Statement{
		SQL:    "UPDATE Singers SET Plays = @plays, Note = @note WHERE STARTS_WITH(SingerId, @prefix)",
		Params: map[string]interface{}{"plays": int64(5000), "note": spanner.NullString{}, "prefix": "dml-"},
	}
	returning := spanner.Statement{
		SQL:    "DELETE FROM Singers WHERE SingerId = @id THEN RETURN SingerId",
		Params: map[string]interface{}{"id": "dml-2"},
	}
	remove := spanner.Statement{
		SQL:    "DELETE FROM Singers WHERE STARTS_WITH(SingerId, @prefix)",
		Params: map[string]interface{}{"prefix": "dml-"},
	}
	read := spanner.Statement{
		SQL:    "SELECT * FROM Singers WHERE STARTS_WITH(SingerId, @prefix) ORDER BY SingerId",
		Params: map[string]interface{}{"prefix": "dml-"},
	}

	var inserted, updated, deleted int64
	var between *digest
	var returned []string
	_, err := w.client.ReadWriteTransaction(ctx, func(ctx context.Context, tx *spanner.ReadWriteTransaction) (err error) {
		if inserted, err = tx.Update(ctx, insert); err != nil {
			return err
		}
		if updated, err = tx.Update(ctx, update); err != nil {
			return err
		}
		if between, err = w.digestSingersWithoutInfo(tx.Query(ctx, read)); err != nil {
			return err
		}
		if returned, err = firstColumn(tx.Query(ctx, returning)); err != nil {
			return err
		}
		deleted, err = tx.Update(ctx, remove)
		return err
	})
	if err != nil {
		return nil, err
	}
	left, err := w.count(ctx, "SELECT COUNT(*) FROM Singers")
	if err != nil {
		return nil, err
	}
	if inserted != 2 || updated != 2 || len(returned) != 1 || deleted != 1 || left != singerCount {
		return nil, fmt.Errorf("inserted %d, updated %d, deleted %q and %d rows, %d are left", inserted, updated, returned, deleted, left)
	}
	return Detail{"inserted": inserted, "updated": updated, "between": between.detail(), "returned": returned, "deleted": deleted}, nil
}

// digestSingersWithoutInfo is for rows that DML wrote, whose JSON column is NULL.
func (w *workload) digestSingersWithoutInfo(rows *spanner.RowIterator) (*digest, error) {
	plain := &workload{library: w.library}
	plain.library.JSON = nil
	return plain.digestSingers(rows)
}

// batchDML runs a batch that succeeds, then two that fail in the middle: one in what it says, one in what it does.
func batchDML(ctx context.Context, w *workload) (Detail, error) {
	deposit := func(id string) spanner.Statement {
		return spanner.Statement{
			SQL:    "INSERT INTO Accounts (AccountId, Balance) VALUES (@id, @balance)",
			Params: map[string]interface{}{"id": id, "balance": int64(1)},
		}
	}
	detail := Detail{}
	batches := []struct {
		name       string
		statements []spanner.Statement
		fails      codes.Code
		counts     int
	}{
		{"all_succeed", []spanner.Statement{deposit("batch-1"), deposit("batch-2"),
			spanner.NewStatement("UPDATE Accounts SET Balance = 2 WHERE STARTS_WITH(AccountId, 'batch-')")}, codes.OK, 3},
		{"second_is_invalid", []spanner.Statement{deposit("batch-3"),
			spanner.NewStatement("UPDATE NoSuchTable SET Balance = 2 WHERE true"), deposit("batch-4")}, codes.InvalidArgument, 1},
		{"second_exists_already", []spanner.Statement{deposit("batch-5"), deposit("batch-1"), deposit("batch-6")}, codes.AlreadyExists, 1},
	}
	for _, b := range batches {
		var counts []int64
		var batchErr error
		_, err := w.client.ReadWriteTransaction(ctx, func(ctx context.Context, tx *spanner.ReadWriteTransaction) error {
			counts, batchErr = tx.BatchUpdate(ctx, b.statements)
			if code(batchErr) == codes.Aborted {
				return batchErr
			}
			// The statements before the one that failed are kept.
			return nil
		})
		if b.fails == codes.OK && batchErr != nil {
			return nil, fmt.Errorf("%s: %v", b.name, batchErr)
		}
		if b.fails != codes.OK {
			if err := expectCode(b.name, batchErr, b.fails); err != nil {
				return nil, err
			}
		}
		// After a statement that broke a constraint the transaction can't commit; which error says so is recorded.
		if b.fails != codes.AlreadyExists && err != nil {
			return nil, fmt.Errorf("%s: commit: %v", b.name, err)
		}
		if len(counts) != b.counts {
			return nil, fmt.Errorf("%s: counts %v, expected %d of them", b.name, counts, b.counts)
		}
		detail[b.name] = Detail{"counts": counts, "error": w.describe(batchErr), "commit": w.describe(err)}
	}
	applied, err := firstColumn(w.client.Single().Query(ctx,
		spanner.NewStatement("SELECT AccountId FROM Accounts WHERE STARTS_WITH(AccountId, 'batch-') ORDER BY AccountId")))
	if err != nil {
		return nil, err
	}
	detail["applied"] = applied
	return detail, sameStrings("applied", applied, []string{"batch-1", "batch-2", "batch-3"})
}

// partitionedDML leaves a note on the inserted rows that no other check reads.
func partitionedDML(ctx context.Context, w *workload) (Detail, error) {
	updated, err := w.client.PartitionedUpdate(ctx, spanner.Statement{
		SQL:    "UPDATE Singers SET Note = @note WHERE Plays >= @plays",
		Params: map[string]interface{}{"note": "often heard", "plays": int64(500)},
	})
	if err != nil {
		return nil, err
	}
	noted, err := w.count(ctx, "SELECT COUNT(*) FROM Singers WHERE Note = 'often heard'")
	if err != nil {
		return nil, err
	}
	if updated != 500 || noted != 500 {
		return nil, fmt.Errorf("updated %d rows, %d have the note, expected 500", updated, noted)
	}
	return Detail{"updated_at_least": updated, "noted": noted}, nil
}

func batchWrite(ctx context.Context, w *workload) (Detail, error) {
	if w.library.BatchWrite == nil {
		return nil, notAvailable{"the library has no BatchWrite"}
	}
	columns := []string{"AccountId", "Balance"}
	err := w.library.BatchWrite(ctx, w.client, []*spanner.Mutation{
		spanner.Insert("Accounts", columns, []interface{}{"group-1", int64(1)}),
		spanner.Insert("Accounts", columns, []interface{}{"group-2", int64(2)}),
	})
	if code(err) == codes.Unimplemented {
		return Detail{"error": w.describe(err)}, notAvailable{"the emulator answers UNIMPLEMENTED"}
	}
	if err != nil {
		return nil, err
	}
	written, err := w.count(ctx, "SELECT COUNT(*) FROM Accounts WHERE STARTS_WITH(AccountId, 'group-')")
	if err == nil && written != 2 {
		err = fmt.Errorf("%d rows written, expected 2", written)
	}
	return Detail{"written": written}, err
}
