// A small client over the official Go library: one scenario per run, its result as one JSON line.
//
//	client SCENARIO URL [ARGUMENT...]
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

const patience = 5 * time.Second

var scenarios = map[string]func(url string, args []string) (any, error){
	"pubsub":       pubsub,
	"request":      request,
	"queue":        queue,
	"headers":      headers,
	"noresponders": noResponders,
	"drain":        drain,
	"autounsub":    autoUnsubscribe,
	"bulk":         bulk,
	"nkey":         nkey,
	"connect":      connectOnly,
	"denied":       denied,
	"reconnect":    reconnect,
	"lameduck":     lameDuck,
	"wildcards":    wildcards,
	"sync":         syncSubscribe,
	"tls":          connectTLS,
}

func main() {
	if len(os.Args) < 3 || scenarios[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: client SCENARIO URL [ARGUMENT...]")
		os.Exit(2)
	}
	result, err := scenarios[os.Args[1]](os.Args[2], os.Args[3:])
	if err != nil {
		result = map[string]any{"error": err.Error()}
	}
	json.NewEncoder(os.Stdout).Encode(result)
}

func dial(url string, options ...nats.Option) (*nats.Conn, error) {
	return nats.Connect(url, append([]nats.Option{nats.Timeout(patience)}, options...)...)
}

func pubsub(url string, _ []string) (any, error) {
	c, err := dial(url)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	got := make(chan *nats.Msg, 10)
	if _, err = c.ChanSubscribe("greet.*", got); err != nil {
		return nil, err
	}
	if err = c.Publish("greet.joe", []byte("hello")); err != nil {
		return nil, err
	}
	select {
	case m := <-got:
		return map[string]any{"subject": m.Subject, "data": string(m.Data), "max_payload": c.MaxPayload(),
			"server": c.ConnectedServerVersion(), "headers": c.HeadersSupported()}, nil
	case <-time.After(patience):
		return nil, errors.New("nothing arrived")
	}
}

func request(url string, _ []string) (any, error) {
	c, err := dial(url)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	d, err := dial(url)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	_, err = c.QueueSubscribe("add", "workers", func(m *nats.Msg) { m.Respond(append(m.Data, '!')) })
	if err != nil {
		return nil, err
	}
	if err = c.Flush(); err != nil {
		return nil, err
	}
	answers := []string{}
	for i := 0; i < 100; i++ {
		m, err := d.Request("add", []byte(fmt.Sprint(i)), patience)
		if err != nil {
			return nil, err
		}
		answers = append(answers, string(m.Data))
	}
	return map[string]any{"answers": answers}, nil
}

func queue(url string, _ []string) (any, error) {
	var counts [3]atomic.Int64
	for i := range counts {
		c, err := dial(url)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		if _, err = c.QueueSubscribe("work", "g", func(*nats.Msg) { counts[i].Add(1) }); err != nil {
			return nil, err
		}
		if err = c.Flush(); err != nil {
			return nil, err
		}
	}
	p, err := dial(url)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	for i := 0; i < 600; i++ {
		if err = p.Publish("work", nil); err != nil {
			return nil, err
		}
	}
	if err = p.Flush(); err != nil {
		return nil, err
	}
	deadline := time.Now().Add(patience)
	total := func() int64 { return counts[0].Load() + counts[1].Load() + counts[2].Load() }
	for total() < 600 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	return map[string]any{"counts": []int64{counts[0].Load(), counts[1].Load(), counts[2].Load()}}, nil
}

func headers(url string, _ []string) (any, error) {
	c, err := dial(url)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	s, err := c.SubscribeSync("h")
	if err != nil {
		return nil, err
	}
	m := nats.NewMsg("h")
	m.Header.Add("Key", "one")
	m.Header.Add("Key", "two")
	m.Data = []byte("body")
	if err = c.PublishMsg(m); err != nil {
		return nil, err
	}
	got, err := s.NextMsg(patience)
	if err != nil {
		return nil, err
	}
	return map[string]any{"values": got.Header.Values("Key"), "data": string(got.Data)}, nil
}

func noResponders(url string, _ []string) (any, error) {
	c, err := dial(url)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	_, err = c.Request("nobody", nil, patience)
	return map[string]any{"no_responders": errors.Is(err, nats.ErrNoResponders)}, nil
}

func drain(url string, _ []string) (any, error) {
	closed := make(chan struct{})
	c, err := dial(url, nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	if err != nil {
		return nil, err
	}
	p, err := dial(url)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	var count atomic.Int64
	if _, err = c.Subscribe("d", func(*nats.Msg) {
		time.Sleep(100 * time.Microsecond)
		count.Add(1)
	}); err != nil {
		return nil, err
	}
	c.Flush()
	for i := 0; i < 500; i++ {
		p.Publish("d", nil)
	}
	p.Flush()
	if err = c.Drain(); err != nil {
		return nil, err
	}
	select {
	case <-closed:
	case <-time.After(patience):
		return nil, errors.New("drain did not end")
	}
	return map[string]any{"count": count.Load()}, nil
}

func autoUnsubscribe(url string, _ []string) (any, error) {
	c, err := dial(url)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var count atomic.Int64
	s, err := c.Subscribe("u", func(*nats.Msg) { count.Add(1) })
	if err != nil {
		return nil, err
	}
	if err = s.AutoUnsubscribe(7); err != nil {
		return nil, err
	}
	for i := 0; i < 20; i++ {
		c.Publish("u", nil)
	}
	c.Flush()
	time.Sleep(50 * time.Millisecond)
	return map[string]any{"count": count.Load(), "valid": s.IsValid()}, nil
}

// bulk checks order and completeness of many messages on several subjects.
func bulk(url string, _ []string) (any, error) {
	const count = 20000
	c, err := dial(url)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	p, err := dial(url)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	done := make(chan int, 1)
	next, wrong := 0, 0
	if _, err = c.Subscribe("bulk.>", func(m *nats.Msg) {
		if string(m.Data) != fmt.Sprint(next) {
			wrong++
		}
		if next++; next == count {
			done <- wrong
		}
	}); err != nil {
		return nil, err
	}
	c.Flush()
	for i := 0; i < count; i++ {
		if err = p.Publish(fmt.Sprintf("bulk.%d", i%7), []byte(fmt.Sprint(i))); err != nil {
			return nil, err
		}
	}
	select {
	case wrong := <-done:
		return map[string]any{"count": count, "wrong": wrong}, nil
	case <-time.After(4 * patience):
		return nil, fmt.Errorf("%d of %d arrived", next, count)
	}
}

// nkey connects with the seed file of its first argument.
func nkey(url string, args []string) (any, error) {
	option, err := nats.NkeyOptionFromSeed(args[0])
	if err != nil {
		return nil, err
	}
	return connected(dial(url, option))
}

func connectOnly(url string, _ []string) (any, error) {
	return connected(dial(url))
}

// connectTLS takes the file of the certificate authority.
func connectTLS(url string, args []string) (any, error) {
	options := []nats.Option{nats.RootCAs(args[0])}
	for _, a := range args[1:] {
		if a == "first" {
			options = append(options, nats.TLSHandshakeFirst())
		}
	}
	return connected(dial(url, options...))
}

func connected(c *nats.Conn, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err = c.FlushTimeout(patience); err != nil {
		return nil, err
	}
	rtt, err := c.RTT()
	return map[string]any{"connected": c.IsConnected(), "rtt": rtt > 0}, err
}

// denied publishes and subscribes where the user may not, and tells what the library reports.
func denied(url string, args []string) (any, error) {
	reports := make(chan error, 10)
	c, err := dial(url, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { reports <- err }))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	c.Publish(args[0], nil)
	c.SubscribeSync(args[0])
	c.Flush()
	texts := []string{}
	for range 2 {
		select {
		case err := <-reports:
			texts = append(texts, strings.ToLower(err.Error()))
		case <-time.After(patience):
			return nil, fmt.Errorf("only %d reports", len(texts))
		}
	}
	return map[string]any{"texts": texts, "connected": c.IsConnected()}, nil
}

// reconnect prints "ready", waits for the server to go and come back on the same port, and tells
// whether the subscription still works.
func reconnect(url string, _ []string) (any, error) {
	back := make(chan struct{}, 1)
	c, err := dial(url, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond),
		nats.ReconnectJitter(0, 0), nats.ReconnectHandler(func(*nats.Conn) { back <- struct{}{} }))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	s, err := c.SubscribeSync("again")
	if err != nil {
		return nil, err
	}
	c.Flush()
	fmt.Println("ready")
	select {
	case <-back:
	case <-time.After(2 * patience):
		return nil, errors.New("did not reconnect")
	}
	if err = c.Publish("again", []byte("x")); err != nil {
		return nil, err
	}
	_, err = s.NextMsg(patience)
	return map[string]any{"delivered": err == nil}, err
}

func lameDuck(url string, _ []string) (any, error) {
	told := make(chan struct{}, 1)
	c, err := dial(url, nats.LameDuckModeHandler(func(*nats.Conn) { told <- struct{}{} }))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	c.Flush()
	fmt.Println("ready")
	select {
	case <-told:
		return map[string]any{"told": true}, nil
	case <-time.After(patience):
		return nil, errors.New("no lame duck notice")
	}
}

func wildcards(url string, _ []string) (any, error) {
	c, err := dial(url)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	filters := []string{"a.b.c", "a.*.c", "a.>", "*.b.*", ">", "a.b", "a.*"}
	subs := make([]*nats.Subscription, len(filters))
	for i, f := range filters {
		if subs[i], err = c.SubscribeSync(f); err != nil {
			return nil, err
		}
	}
	c.Publish("a.b.c", nil)
	c.Flush()
	counts := map[string]int{}
	for i, f := range filters {
		counts[f], _, _ = subs[i].Pending()
	}
	return counts, nil
}

func syncSubscribe(url string, _ []string) (any, error) {
	c, err := dial(url)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	s, err := c.SubscribeSync("s")
	if err != nil {
		return nil, err
	}
	_, early := s.NextMsg(20 * time.Millisecond)
	c.Publish("s", []byte("x"))
	m, err := s.NextMsg(patience)
	if err != nil {
		return nil, err
	}
	if err = s.Unsubscribe(); err != nil {
		return nil, err
	}
	return map[string]any{"timeout": errors.Is(early, nats.ErrTimeout), "data": string(m.Data)}, nil
}
