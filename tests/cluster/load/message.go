package main

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// A message of Protocol Buffers by the numbers of its fields, as far as those are numbers or bytes.
type message struct {
	numbers map[protowire.Number]uint64
	bytes   map[protowire.Number][][]byte
}

// read stops at what it cannot read, and passes over what is of no use here.
func read(data []byte) message {
	m := message{map[protowire.Number]uint64{}, map[protowire.Number][][]byte{}}
	for len(data) > 0 {
		field, kind, tag := protowire.ConsumeTag(data)
		if tag < 0 {
			break
		}
		size := protowire.ConsumeFieldValue(field, kind, data[tag:])
		if size < 0 {
			break
		}
		switch kind {
		case protowire.VarintType:
			m.numbers[field], _ = protowire.ConsumeVarint(data[tag:])
		case protowire.BytesType:
			value, _ := protowire.ConsumeBytes(data[tag:])
			m.bytes[field] = append(m.bytes[field], value)
		}
		data = data[tag+size:]
	}
	return m
}

// number fails where there is none, as 0 is not sent.
func (m message) number(field protowire.Number) (uint64, error) {
	if number := m.numbers[field]; number != 0 {
		return number, nil
	}
	return 0, fmt.Errorf("the answer has no field %d", field)
}

func (m message) text(field protowire.Number) string {
	for _, value := range m.bytes[field] {
		return string(value)
	}
	return ""
}

func (m message) all(field protowire.Number) []message {
	var found []message
	for _, value := range m.bytes[field] {
		found = append(found, read(value))
	}
	return found
}

func appendBytes(data []byte, field protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(data, field, protowire.BytesType), value)
}

// ofAgent begins every request: the agent's id is field 1 of each.
func ofAgent() []byte {
	return appendBytes(nil, 1, []byte(*agent))
}
