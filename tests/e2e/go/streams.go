package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func init() {
	for name, run := range map[string]func(context.Context, jetstream.JetStream) (any, error){
		"streams": streams, "publish": publish, "pull": pull, "push": push, "ordered": ordered,
		"kv": keyValue, "objects": objects,
	} {
		scenarios[name] = func(url string, _ []string) (any, error) {
			c, err := dial(url)
			if err != nil {
				return nil, err
			}
			defer c.Close()
			js, err := jetstream.New(c)
			if err != nil {
				return nil, err
			}
			ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
			defer cancel()
			return run(ctx, js)
		}
	}
}

// code is the number of a refusal, 0 without one, -1 for anything else.
func code(err error) int {
	var refused *jetstream.APIError
	if errors.As(err, &refused) {
		return int(refused.ErrorCode)
	}
	if err != nil {
		return -1
	}
	return 0
}

// fill makes a stream that takes NAME.> and publishes count numbers to it.
func fill(ctx context.Context, js jetstream.JetStream, name string, count int) (jetstream.Stream, error) {
	s, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: name, Subjects: []string{name + ".>"}})
	if err != nil {
		return nil, err
	}
	var last jetstream.PubAckFuture
	for i := 0; i < count; i++ {
		if last, err = js.PublishAsync(fmt.Sprintf("%s.%d", name, i%2), []byte(fmt.Sprint(i))); err != nil {
			return nil, err
		}
	}
	if last != nil {
		select {
		case <-last.Ok():
		case err = <-last.Err():
			return nil, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return s, nil
}

// until asks again until the answer is yes.
func until(ctx context.Context, what func() (bool, error)) error {
	for {
		done, err := what()
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func streams(ctx context.Context, js jetstream.JetStream) (any, error) {
	s, err := fill(ctx, js, "ORDERS", 6)
	if err != nil {
		return nil, err
	}
	result := map[string]any{}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(">"))
	if err != nil {
		return nil, err
	}
	result["state"] = []uint64{info.State.Msgs, info.State.FirstSeq, info.State.LastSeq}
	result["subjects"] = info.State.Subjects
	last, err := s.GetLastMsgForSubject(ctx, "ORDERS.0")
	if err != nil {
		return nil, err
	}
	result["last"] = string(last.Data)
	if err = s.DeleteMsg(ctx, 2); err != nil {
		return nil, err
	}
	if err = s.Purge(ctx, jetstream.WithPurgeSubject("ORDERS.0"), jetstream.WithPurgeKeep(1)); err != nil {
		return nil, err
	}
	_, err = s.GetMsg(ctx, 2)
	result["deleted"] = code(err)
	config := info.Config
	config.MaxMsgs, config.Description = 2, "few"
	changed, err := js.UpdateStream(ctx, config)
	if err != nil {
		return nil, err
	}
	result["changed"] = []any{changed.CachedInfo().State.Msgs, changed.CachedInfo().Config.Description}
	names := []string{}
	lister := js.StreamNames(ctx)
	for name := range lister.Name() {
		names = append(names, name)
	}
	result["names"] = names
	found, err := js.StreamNameBySubject(ctx, "ORDERS.x")
	if err != nil {
		return nil, err
	}
	result["found"] = found
	_, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"ORDERS.*"}})
	result["overlap"] = code(err)
	_, err = js.Stream(ctx, "NONE")
	result["missing"] = code(err)
	account, err := js.AccountInfo(ctx)
	if err != nil {
		return nil, err
	}
	result["streams"] = account.Streams
	return result, js.DeleteStream(ctx, "ORDERS")
}

func publish(ctx context.Context, js jetstream.JetStream) (any, error) {
	if _, err := fill(ctx, js, "PUB", 0); err != nil {
		return nil, err
	}
	body := []byte("x")
	result := map[string]any{}
	first, err := js.Publish(ctx, "PUB.a", body, jetstream.WithMsgID("one"), jetstream.WithExpectStream("PUB"),
		jetstream.WithExpectLastSequence(0))
	if err != nil {
		return nil, err
	}
	again, err := js.Publish(ctx, "PUB.a", body, jetstream.WithMsgID("one"))
	if err != nil {
		return nil, err
	}
	result["acks"] = []any{first.Stream, first.Sequence, first.Duplicate, again.Sequence, again.Duplicate}
	refused := []int{}
	for _, option := range []jetstream.PublishOpt{jetstream.WithExpectStream("X"), jetstream.WithExpectLastSequence(7),
		jetstream.WithExpectLastSequencePerSubject(7), jetstream.WithExpectLastMsgID("two")} {
		_, err = js.Publish(ctx, "PUB.a", body, option)
		refused = append(refused, code(err))
	}
	result["refused"] = refused
	fits, err := js.Publish(ctx, "PUB.a", body, jetstream.WithExpectLastSequencePerSubject(1),
		jetstream.WithExpectLastMsgID("one"))
	if err != nil {
		return nil, err
	}
	result["fits"] = fits.Sequence
	futures := []jetstream.PubAckFuture{}
	for i := 0; i < 500; i++ {
		f, err := js.PublishAsync("PUB.b", body)
		if err != nil {
			return nil, err
		}
		futures = append(futures, f)
	}
	right := 0
	for i, f := range futures {
		select {
		case ack := <-f.Ok():
			if ack.Sequence == uint64(i+3) {
				right++
			}
		case err := <-f.Err():
			return nil, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	result["many"] = right
	return result, js.DeleteStream(ctx, "PUB")
}

func pull(ctx context.Context, js jetstream.JetStream) (any, error) {
	s, err := fill(ctx, js, "PULL", 20)
	if err != nil {
		return nil, err
	}
	c, err := s.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{Durable: "d", AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: 30 * time.Second, MaxDeliver: 3})
	if err != nil {
		return nil, err
	}
	result := map[string]any{}
	batch, err := c.Fetch(4, jetstream.FetchMaxWait(patience))
	if err != nil {
		return nil, err
	}
	first := []jetstream.Msg{}
	for m := range batch.Messages() {
		first = append(first, m)
	}
	if len(first) != 4 {
		return nil, fmt.Errorf("%d messages: %w", len(first), batch.Error())
	}
	meta, err := first[3].Metadata()
	if err != nil {
		return nil, err
	}
	result["meta"] = []uint64{meta.Sequence.Stream, meta.Sequence.Consumer, meta.NumDelivered, meta.NumPending}
	if err = first[0].DoubleAck(ctx); err != nil {
		return nil, err
	}
	if err = errors.Join(first[1].NakWithDelay(200*time.Millisecond), first[2].TermWithReason("bad"),
		first[3].InProgress()); err != nil {
		return nil, err
	}
	asked := time.Now()
	type delivery struct{ seq, count uint64 }
	got := make(chan delivery, 64)
	consuming, err := c.Consume(func(m jetstream.Msg) {
		if meta, err := m.Metadata(); err == nil {
			got <- delivery{meta.Sequence.Stream, meta.NumDelivered}
		}
		m.Ack()
	}, jetstream.PullMaxMessages(10))
	if err != nil {
		return nil, err
	}
	seen, repeated := []uint64{}, []uint64{}
	for len(seen) < 17 {
		select {
		case d := <-got:
			seen = append(seen, d.seq)
			if d.count > 1 {
				repeated = append(repeated, d.seq)
				result["waited"] = time.Since(asked) >= 190*time.Millisecond
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	consuming.Drain()
	<-consuming.Closed()
	sort.Slice(seen, func(i, j int) bool { return seen[i] < seen[j] })
	result["seen"], result["again"] = seen, repeated
	if err = first[3].DoubleAck(ctx); err != nil {
		return nil, err
	}
	var info *jetstream.ConsumerInfo
	if err = until(ctx, func() (bool, error) {
		info, err = c.Info(ctx)
		return err != nil || info.NumAckPending == 0, err
	}); err != nil {
		return nil, err
	}
	result["floor"] = []uint64{info.AckFloor.Stream, info.NumPending}
	none, err := c.FetchNoWait(1)
	if err != nil {
		return nil, err
	}
	_, more := <-none.Messages()
	result["none"] = !more
	messages, err := c.Messages()
	if err != nil {
		return nil, err
	}
	if _, err = js.Publish(ctx, "PULL.0", []byte("late")); err != nil {
		return nil, err
	}
	late, err := messages.Next()
	if err != nil {
		return nil, err
	}
	result["late"] = string(late.Data())
	err = late.DoubleAck(ctx)
	messages.Stop()
	return result, errors.Join(err, s.DeleteConsumer(ctx, "d"), js.DeleteStream(ctx, "PULL"))
}

func push(ctx context.Context, js jetstream.JetStream) (any, error) {
	s, err := fill(ctx, js, "PUSH", 10)
	if err != nil {
		return nil, err
	}
	c, err := s.CreateOrUpdatePushConsumer(ctx, jetstream.ConsumerConfig{Durable: "p", DeliverSubject: nats.NewInbox(),
		AckPolicy: jetstream.AckExplicitPolicy, IdleHeartbeat: time.Second, FlowControl: true})
	if err != nil {
		return nil, err
	}
	got := make(chan string, 64)
	consuming, err := c.Consume(func(m jetstream.Msg) {
		got <- string(m.Data())
		m.Ack()
	})
	if err != nil {
		return nil, err
	}
	if _, err = js.Publish(ctx, "PUSH.0", []byte("10")); err != nil {
		return nil, err
	}
	all := []string{}
	for len(all) < 11 {
		select {
		case data := <-got:
			all = append(all, data)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	var info *jetstream.ConsumerInfo
	err = until(ctx, func() (bool, error) {
		info, err = c.Info(ctx)
		return err != nil || info.AckFloor.Stream == 11, err
	})
	if err != nil {
		return nil, err
	}
	bound := info.PushBound
	consuming.Stop()
	return map[string]any{"got": all, "bound": bound}, js.DeleteStream(ctx, "PUSH")
}

func ordered(ctx context.Context, js jetstream.JetStream) (any, error) {
	s, err := fill(ctx, js, "ORD", 300)
	if err != nil {
		return nil, err
	}
	c, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{FilterSubjects: []string{"ORD.1"}})
	if err != nil {
		return nil, err
	}
	messages, err := c.Messages(jetstream.PullMaxMessages(50))
	if err != nil {
		return nil, err
	}
	defer messages.Stop()
	right := 0
	for i := 0; i < 150; i++ {
		m, err := messages.Next()
		if err != nil {
			return nil, err
		}
		if string(m.Data()) == fmt.Sprint(2*i+1) {
			right++
		}
	}
	return map[string]any{"right": right}, js.DeleteStream(ctx, "ORD")
}

func keyValue(ctx context.Context, js jetstream.JetStream) (any, error) {
	kv, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "B", History: 3})
	if err != nil {
		return nil, err
	}
	watcher, err := kv.Watch(ctx, "k.>")
	if err != nil {
		return nil, err
	}
	defer watcher.Stop()
	a, err1 := kv.PutString(ctx, "k.a", "1")
	b, err2 := kv.Create(ctx, "k.b", []byte("2"))
	c, err3 := kv.Update(ctx, "k.a", []byte("3"), a)
	if err = errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	result := map[string]any{"revisions": []uint64{a, b, c}}
	_, err = kv.Create(ctx, "k.b", nil)
	result["exists"] = errors.Is(err, jetstream.ErrKeyExists)
	_, err = kv.Update(ctx, "k.a", nil, a)
	result["stale"] = code(err)
	e, err := kv.Get(ctx, "k.a")
	if err != nil {
		return nil, err
	}
	result["got"] = []any{string(e.Value()), e.Revision()}
	if e, err = kv.GetRevision(ctx, "k.a", 1); err != nil {
		return nil, err
	}
	result["first"] = string(e.Value())
	history, err := kv.History(ctx, "k.a")
	if err != nil {
		return nil, err
	}
	values := []string{}
	for _, e := range history {
		values = append(values, string(e.Value()))
	}
	result["history"] = values
	keys, err := kv.Keys(ctx)
	if err != nil {
		return nil, err
	}
	sort.Strings(keys)
	result["keys"] = keys
	if err = errors.Join(kv.Delete(ctx, "k.b"), kv.Purge(ctx, "k.a")); err != nil {
		return nil, err
	}
	_, err = kv.Get(ctx, "k.b")
	result["deleted"] = errors.Is(err, jetstream.ErrKeyNotFound)
	again, err := kv.Create(ctx, "k.b", []byte("4"))
	if err != nil {
		return nil, err
	}
	result["again"] = again
	changes := []string{}
	for len(changes) < 6 {
		select {
		case e := <-watcher.Updates():
			if e != nil {
				changes = append(changes, fmt.Sprintf("%s %s %s", e.Key(), e.Operation(), e.Value()))
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	result["changes"] = changes
	brief, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "T", TTL: 400 * time.Millisecond})
	if err != nil {
		return nil, err
	}
	if _, err = brief.PutString(ctx, "x", "soon gone"); err != nil {
		return nil, err
	}
	if err = until(ctx, func() (bool, error) {
		_, err := brief.Get(ctx, "x")
		return errors.Is(err, jetstream.ErrKeyNotFound), nil
	}); err != nil {
		return nil, err
	}
	return result, errors.Join(js.DeleteKeyValue(ctx, "B"), js.DeleteKeyValue(ctx, "T"))
}

func objects(ctx context.Context, js jetstream.JetStream) (any, error) {
	store, err := js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: "FILES", Description: "things"})
	if err != nil {
		return nil, err
	}
	big := bytes.Repeat([]byte{0, 7, 14, 255}, 75000)
	put, err := store.Put(ctx, jetstream.ObjectMeta{Name: "dir/big file",
		Opts: &jetstream.ObjectMetaOptions{ChunkSize: 65536}}, bytes.NewReader(big))
	if err != nil {
		return nil, err
	}
	result := map[string]any{"put": []any{put.Size, put.Chunks}}
	back, err := store.GetBytes(ctx, "dir/big file")
	if err != nil {
		return nil, err
	}
	result["same"] = bytes.Equal(back, big)
	if _, err = store.PutString(ctx, "small", "s"); err != nil {
		return nil, err
	}
	if _, err = store.PutString(ctx, "small", "other"); err != nil {
		return nil, err
	}
	if result["replaced"], err = store.GetString(ctx, "small"); err != nil {
		return nil, err
	}
	if err = store.Delete(ctx, "dir/big file"); err != nil {
		return nil, err
	}
	_, err = store.GetBytes(ctx, "dir/big file")
	result["deleted"] = errors.Is(err, jetstream.ErrObjectNotFound)
	list, err := store.List(ctx)
	if err != nil {
		return nil, err
	}
	names := []string{}
	for _, info := range list {
		names = append(names, info.Name)
	}
	result["names"] = names
	if err = store.Seal(ctx); err != nil {
		return nil, err
	}
	_, err = store.PutString(ctx, "late", "x")
	result["sealed"] = code(err)
	return result, js.DeleteObjectStore(ctx, "FILES")
}
