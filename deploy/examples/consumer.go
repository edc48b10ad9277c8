// Keeps a table of orders up to date, in Go. Reads through a group, takes over what a consumer that is gone has left, applies
// each event once, and makes a dead letter of an event that fails too often. Several processes with one group and different
// names share the work. Needs Go 1.19 or newer, and the two scripts beside it.
//
//	go mod init consumer && go get github.com/gomodule/redigo && go build
//	./consumer -url redis://127.0.0.1:6379/0 -group warehouse -name worker-1
package main

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"strings"
	"time"

	"github.com/gomodule/redigo/redis"
)

//go:embed upsert.lua
var upsertScript string

//go:embed dead-letter.lua
var deadLetterScript string

var (
	url           = flag.String("url", "redis://127.0.0.1:6379/0", "address of Redis")
	account       = flag.String("account", "default", "name of the account")
	prefix        = flag.String("prefix", "ordersync:", "ORDERSYNC_REDIS__PREFIX of the worker")
	group         = flag.String("group", "warehouse", "consumer group")
	name          = flag.String("name", "worker-1", "its own, and the same after a restart")
	table         = flag.String("table", "warehouse:orders", "hash that gets the orders")
	claimAfter    = flag.Duration("claim-after", time.Minute, "more than one event may take")
	maxDeliveries = flag.Int("max-deliveries", 5, "attempts until an event becomes a dead letter")
	refuse        = flag.String("refuse", "", "fail at orders of this status, to see what happens then")
	once          = flag.Bool("once", false, "end when nothing is left")
)

type consumer struct {
	conn         redis.Conn
	stream, dead string
	upsert, bury *redis.Script
}

// createGroup begins with the oldest event that is kept, unless the group exists.
func (c *consumer) createGroup() error {
	_, err := c.conn.Do("XGROUP", "CREATE", c.stream, *group, "0", "MKSTREAM")
	if err != nil && strings.HasPrefix(err.Error(), "BUSYGROUP") {
		return nil
	}
	return err
}

// apply is the work on one event. Twice is the same as once: an event that is not newer than its order changes nothing.
func (c *consumer) apply(entry string, fields map[string]string) error {
	data := []byte(fields["data"])
	if fields["dataencoding"] == "gzip" {
		reader, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return err
		}
		if data, err = io.ReadAll(reader); err != nil {
			return err
		}
	}
	var order struct {
		Status string `json:"status"`
	}
	if err := json.Unmarshal(data, &order); err != nil {
		return err
	}
	if *refuse != "" && order.Status == *refuse {
		return fmt.Errorf("status %s is not wanted here", *refuse)
	}
	_, err := c.upsert.Do(c.conn, *table, fields["subject"], entry, data)
	return err
}

// handle applies an event and acknowledges it after the effect, or leaves it to be retried, or makes it a dead letter.
func (c *consumer) handle(entry string, fields map[string]string, attempt int) error {
	if len(fields) > 0 { // else it was removed from the stream after it had been taken
		if failure := c.apply(entry, fields); failure != nil {
			if c.conn.Err() != nil {
				return c.conn.Err()
			}
			log.Printf("%s failed, attempt %d: %v", entry, attempt, failure)
			if attempt < *maxDeliveries {
				return nil // it stays pending, and is claimed again
			}
			now := time.Now().UTC().Format(time.RFC3339Nano)
			_, err := c.bury.Do(c.conn, c.stream, c.dead, *group, *name, entry, attempt, failure.Error(), now)
			return err
		}
	}
	_, err := c.conn.Do("XACK", c.stream, *group, entry)
	return err
}

// each calls handle for the entries of an answer.
func (c *consumer) each(answer interface{}, err error, attempt int) (int, error) {
	entries, err := redis.Values(answer, err)
	if errors.Is(err, redis.ErrNil) {
		return 0, nil
	}
	for _, item := range entries {
		if err != nil {
			break
		}
		if item == nil { // Redis 6.2: an entry that was removed
			continue
		}
		entry, _ := redis.Values(item, nil)
		id, _ := redis.String(entry[0], nil)
		fields, _ := redis.StringMap(entry[1], nil)
		err = c.handle(id, fields, attempt)
	}
	return len(entries), err
}

// claimIdle takes over what nobody has touched for a while: left by a process that is gone, failed here, or replayed.
func (c *consumer) claimIdle() error {
	idle := claimAfter.Milliseconds()
	pending, err := redis.Values(c.conn.Do("XPENDING", c.stream, *group, "IDLE", idle, "-", "+", 100))
	if err != nil {
		return err
	}
	for _, item := range pending {
		row, _ := redis.Values(item, nil)
		id, _ := redis.String(row[0], nil)
		delivered, _ := redis.Int(row[3], nil)
		// Counts the attempt. Nothing comes back if another consumer was faster, or the entry was removed.
		answer, err := c.conn.Do("XCLAIM", c.stream, *group, *name, idle, id)
		if _, err = c.each(answer, err, delivered+1); err != nil {
			return err
		}
	}
	return nil
}

// read handles the next new events. It returns how many there were.
func (c *consumer) read() (int, error) {
	answer, err := redis.Values(c.conn.Do(
		"XREADGROUP", "GROUP", *group, *name, "COUNT", 100, "BLOCK", 500, "STREAMS", c.stream, ">"))
	if errors.Is(err, redis.ErrNil) || err != nil || len(answer) == 0 {
		if errors.Is(err, redis.ErrNil) {
			err = nil
		}
		return 0, err
	}
	stream, _ := redis.Values(answer[0], nil)
	return c.each(stream[1], nil, 1)
}

func (c *consumer) run() error {
	if err := c.createGroup(); err != nil {
		return err
	}
	var looked time.Time
	for {
		var err error
		if time.Since(looked) > *claimAfter/2 {
			looked = time.Now()
			err = c.claimIdle()
		}
		count := 0
		if err == nil {
			count, err = c.read()
		}
		if err != nil {
			if !strings.Contains(err.Error(), "NOGROUP") && !strings.Contains(err.Error(), "UNBLOCKED") {
				return err
			}
			if err = c.createGroup(); err != nil { // Redis has lost the group: it begins again
				return err
			}
			continue
		}
		if *once && count == 0 {
			pending, err := redis.Values(c.conn.Do("XPENDING", c.stream, *group))
			if err != nil {
				return err
			}
			if left, _ := redis.Int(pending[0], nil); left == 0 {
				return nil
			}
		}
	}
}

func main() {
	flag.Parse()
	keys := fmt.Sprintf("%s{%s}:", *prefix, *account)
	for {
		conn, err := redis.DialURL(*url, redis.DialReadTimeout(30*time.Second))
		if err == nil {
			c := &consumer{
				conn: conn, stream: keys + "stream:orders", dead: keys + "dead:orders",
				upsert: redis.NewScript(1, upsertScript), bury: redis.NewScript(2, deadLetterScript),
			}
			if err = c.run(); err == nil {
				return
			}
			broken := conn.Err() != nil
			conn.Close()
			if !broken {
				log.Fatal(err)
			}
		}
		log.Printf("redis: %v", err) // it is connected again
		time.Sleep(time.Second)
	}
}
