package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
)

// How many keys are set in turn. Some of them are set again before an answer has come, as if by several people.
const keys = 8

// A value that was sent; with the revision that it was acknowledged with, or 0.
type sent struct {
	key, value string
	revision   uint64
}

// All that were sent.
type writes struct {
	sync.Mutex
	all []sent
}

// set gives each turn a value of its own.
func (w *writes) set(connection *grpc.ClientConn, turn int) (time.Duration, error) {
	one := sent{key: fmt.Sprintf("%s_%d", *write, turn%keys), value: fmt.Sprintf("turn %d", turn)}
	request := appendBytes(ofAgent(), 2, appendBytes(appendBytes(nil, 1, []byte(one.key)), 2, []byte(one.value)))
	answer, took, err := call(connection, "SecretsService/SetSecrets", request)
	if err == nil {
		one.revision, err = read(answer).number(2)
	}
	w.Lock()
	defer w.Unlock()
	w.all = append(w.all, one)
	return took, err
}

// check says how many writes were acknowledged, and fails unless each of them was done once, is on record, and is what
// its key has now or had before a later one.
func (w *writes) check(connection *grpc.ClientConn) error {
	if len(w.all) == 0 {
		return nil
	}
	records, err := recorded(connection)
	if err != nil {
		return fmt.Errorf("the records: %w", err)
	}
	if len(records) > len(w.all) {
		return fmt.Errorf("%d writes are on record, %d were sent", len(records), len(w.all))
	}
	acknowledged, last := map[uint64]bool{}, map[string]sent{}
	for _, one := range w.all {
		switch {
		case one.revision == 0:
			continue
		case acknowledged[one.revision]:
			return fmt.Errorf("two writes were given revision %d", one.revision)
		case records[one.revision] != one.key:
			return fmt.Errorf("LOST: %s of revision %d is not on record", one.key, one.revision)
		}
		acknowledged[one.revision] = true
		if one.revision > last[one.key].revision {
			last[one.key] = one
		}
	}
	// Calls go round, so of two servers each is asked
	for range 2 {
		if err := w.compare(connection, last); err != nil {
			return err
		}
	}
	fmt.Printf("  all %d acknowledged are there, and %d of %d others\n",
		len(acknowledged), len(records)-len(acknowledged), len(w.all)-len(acknowledged))
	return nil
}

// compare fails unless each key has the value that was acknowledged last, or one of which nobody was told.
func (w *writes) compare(connection *grpc.ClientConn, last map[string]sent) error {
	answer, _, err := call(connection, "SecretsService/ListSecrets", ofAgent())
	if err != nil {
		return fmt.Errorf("the keys: %w", err)
	}
	versions := map[string]uint64{}
	for _, secret := range read(answer).all(2) {
		versions[secret.text(1)], _ = secret.number(2)
	}
	answer, _, err = call(connection, "RuntimeService/ResolveSecrets", ofAgent())
	if err != nil {
		return fmt.Errorf("the values: %w", err)
	}
	values := map[string]string{}
	for _, entry := range read(answer).all(1) {
		values[entry.text(1)] = entry.text(2)
	}
	for key, newest := range last {
		may := sent{key: key, value: values[key]}
		if versions[key] == newest.revision {
			may.revision = newest.revision
		}
		if versions[key] < newest.revision || !w.has(may) {
			return fmt.Errorf("LOST: %s has revision %d with %q, acknowledged was %d with %q",
				key, versions[key], values[key], newest.revision, newest.value)
		}
	}
	return nil
}

func (w *writes) has(wanted sent) bool {
	for _, one := range w.all {
		if one == wanted {
			return true
		}
	}
	return false
}

// recorded gives the key of each revision at which one of ours was set, by the audit trail.
func recorded(connection *grpc.ClientConn) (map[uint64]string, error) {
	records := map[uint64]string{}
	for page := ""; ; {
		answer, _, err := call(connection, "AuditService/ListAuditEvents", appendBytes(ofAgent(), 3, []byte(page)))
		if err != nil {
			return nil, err
		}
		for _, event := range read(answer).all(1) {
			for _, secret := range event.all(6) {
				key := secret.text(1)
				if event.text(3) != "secrets.set" || !strings.HasPrefix(key, *write+"_") {
					continue
				}
				revision, err := event.number(10)
				if _, twice := records[revision]; twice || err != nil {
					return nil, fmt.Errorf("revision %d is on record twice, or is none: %w", revision, err)
				}
				records[revision] = key
			}
		}
		if page = read(answer).text(2); page == "" {
			return records, nil
		}
	}
}
