package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
)

// blackhole listens on an address that accepts no connection: its queue of connections is full and is never emptied, so
// the kernel drops every further SYN, as a firewall does. Needs no privilege.
func blackhole(address string) (string, func(), error) {
	wanted, err := netip.ParseAddrPort(address)
	if err != nil {
		return "", nil, err
	}
	if !wanted.Addr().Is4() {
		return "", nil, fmt.Errorf("%s is not an IPv4 address", wanted.Addr())
	}
	listener, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", nil, err
	}
	open := []int{listener}
	end := func() {
		for _, socket := range open {
			_ = syscall.Close(socket)
		}
	}
	bound, err := fill(listener, syscall.SockaddrInet4{Port: int(wanted.Port()), Addr: wanted.Addr().As4()}, &open)
	if err != nil {
		end()
		return "", nil, err
	}
	return bound, end, nil
}

// fill binds a socket and connects to it until its queue is full.
func fill(listener int, address syscall.SockaddrInet4, open *[]int) (string, error) {
	if err := syscall.SetsockoptInt(listener, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return "", err
	}
	if err := syscall.Bind(listener, &address); err != nil {
		return "", err
	}
	// A queue of length 0 holds one connection.
	if err := syscall.Listen(listener, 0); err != nil {
		return "", err
	}
	name, err := syscall.Getsockname(listener)
	if err != nil {
		return "", err
	}
	bound, ok := name.(*syscall.SockaddrInet4)
	if !ok {
		return "", fmt.Errorf("the socket has no IPv4 address")
	}
	// Two, to be sure: the second stays half open.
	for range 2 {
		client, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			return "", err
		}
		*open = append(*open, client)
		if err := syscall.Connect(client, bound); err != nil && err != syscall.EINPROGRESS {
			return "", err
		}
	}
	return netip.AddrPortFrom(netip.AddrFrom4(bound.Addr), uint16(bound.Port)).String(), nil
}

// nameFaults are answers of the name server, by the first label of the requested name.
var nameFaults = map[string]uint16{"formerr": 1, "servfail": 2, "nxdomain": 3, "refused": 5}

// serveNames is a name server that answers every name with the same addresses, except names that begin with one of
// nameFaults, with `silent` (no answer) or with `empty` (the name exists, and has no address).
func serveNames(address, answers string) (string, func(), error) {
	var addresses []netip.Addr
	for text := range strings.SplitSeq(answers, ",") {
		one, err := netip.ParseAddr(text)
		if err != nil {
			return "", nil, err
		}
		addresses = append(addresses, one)
	}
	socket, err := net.ListenPacket("udp", address)
	if err != nil {
		return "", nil, err
	}
	go func() {
		buffer := make([]byte, 1500)
		for {
			n, from, err := socket.ReadFrom(buffer)
			if err != nil {
				return
			}
			if answer := answerName(buffer[:n], addresses); answer != nil {
				_, _ = socket.WriteTo(answer, from)
			}
		}
	}()
	return socket.LocalAddr().String(), func() { _ = socket.Close() }, nil
}

// answerName builds the answer to one question (RFC 1035, 4.1), or nil for no answer.
func answerName(query []byte, addresses []netip.Addr) []byte {
	const head = 12
	if len(query) < head || binary.BigEndian.Uint16(query[4:]) != 1 {
		return nil
	}
	end, labels := head, []string{}
	for end < len(query) && query[end] != 0 {
		next := end + 1 + int(query[end])
		if next >= len(query) {
			return nil
		}
		labels = append(labels, string(query[end+1:next]))
		end = next
	}
	end += 5 // the root label, the type and the class
	if end > len(query) || len(labels) == 0 {
		return nil
	}
	first := strings.ToLower(labels[0])
	if first == "silent" {
		return nil
	}
	kind := binary.BigEndian.Uint16(query[end-4:])
	answer := append([]byte{}, query[:end]...)
	// An authoritative answer; recursion available, and desired as in the question.
	flags := 0x8480 | binary.BigEndian.Uint16(query[2:])&0x0100 | nameFaults[first]
	binary.BigEndian.PutUint16(answer[2:], flags)
	count := uint16(0)
	if _, fault := nameFaults[first]; !fault && first != "empty" {
		for _, one := range addresses {
			raw := one.AsSlice()
			if one.Is4() == (kind == 1) && (kind == 1 || kind == 28) {
				// A pointer to the name in the question, class IN, no caching.
				answer = append(answer, 0xc0, head, 0, byte(kind), 0, 1, 0, 0, 0, 0, 0, byte(len(raw)))
				answer = append(answer, raw...)
				count++
			}
		}
	}
	binary.BigEndian.PutUint16(answer[6:], count)
	binary.BigEndian.PutUint32(answer[8:], 0) // no authority, and nothing additional
	return answer
}
