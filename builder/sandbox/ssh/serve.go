package ssh

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// Messages of the agent protocol (draft-ietf-sshm-ssh-agent, section 6.1). Those
// that are not here may change an agent, and are answered with a failure.
const (
	msgFailure     = 5
	msgListKeys    = 11
	msgKeys        = 12
	msgSign        = 13
	maxMessageSize = 256 << 10 // bytes, as in OpenSSH
)

// signRequest (13, msgSign) asks for a signature of data by the key with a public part.
type signRequest struct {
	Key   []byte `sshtype:"13"`
	Data  []byte
	Flags uint32
}

// signResponse (14) holds a signature in the form of the SSH protocol.
type signResponse struct {
	Signature []byte `sshtype:"14"`
}

// converse answers requests until the other side hangs up or leaves the
// protocol. Unlike the server of x/crypto it writes nothing to the log of this
// process, which belongs to a command that nobody trusts.
func converse(conn io.ReadWriter, keys agent.ExtendedAgent) error {
	for {
		request, err := readMessage(conn)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		response := answer(request, keys)
		frame := binary.BigEndian.AppendUint32(nil, uint32(len(response)))
		if _, err := conn.Write(append(frame, response...)); err != nil {
			return fmt.Errorf("ssh agent's answer: %w", err)
		}
	}
}

// readMessage reads a message; io.EOF is an end between messages.
func readMessage(r io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n == 0 || n > maxMessageSize {
		return nil, fmt.Errorf("ssh agent's request of %d bytes", n)
	}
	message := make([]byte, n)
	if _, err := io.ReadFull(r, message); err != nil {
		return nil, fmt.Errorf("ssh agent's request: %w", err)
	}
	return message, nil
}

// answer returns the response to a request. The protocol has one word for all
// that can be wrong with one.
func answer(request []byte, keys agent.ExtendedAgent) []byte {
	var response []byte
	err := errors.ErrUnsupported
	switch request[0] {
	case msgListKeys:
		response, err = list(keys)
	case msgSign:
		response, err = sign(request, keys)
	}
	if err != nil || len(response) > maxMessageSize {
		return []byte{msgFailure}
	}
	return response
}

func list(keys agent.ExtendedAgent) ([]byte, error) {
	all, err := keys.List()
	if err != nil {
		return nil, err
	}
	response := binary.BigEndian.AppendUint32([]byte{msgKeys}, uint32(len(all)))
	for _, k := range all {
		entry := struct {
			Blob    []byte
			Comment string
		}{k.Blob, k.Comment}
		response = append(response, ssh.Marshal(entry)...)
	}
	return response, nil
}

func sign(request []byte, keys agent.ExtendedAgent) ([]byte, error) {
	var r signRequest
	if err := ssh.Unmarshal(request, &r); err != nil {
		return nil, err
	}
	var blob struct {
		Format string
		Rest   []byte `ssh:"rest"`
	}
	if err := ssh.Unmarshal(r.Key, &blob); err != nil {
		return nil, err
	}
	key := &agent.Key{Format: blob.Format, Blob: r.Key}
	signature, err := keys.SignWithFlags(key, r.Data, agent.SignatureFlags(r.Flags))
	if err != nil {
		return nil, err
	}
	return ssh.Marshal(signResponse{ssh.Marshal(signature)}), nil
}
