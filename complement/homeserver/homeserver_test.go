package homeserver

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func authority(t *testing.T) Authority {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber:          big.NewInt(1),
		NotBefore:             time.Now().Add(-time.Minute),
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return Authority{Certificate: certificate, Key: key}
}

// start starts a server of the binary that $CHANCERY_BIN names.
func start(t *testing.T, authority Authority) *Server {
	t.Helper()
	binary := os.Getenv("CHANCERY_BIN")
	if binary == "" {
		t.Skip("CHANCERY_BIN does not say what to run")
	}
	server, err := New(Options{
		Binary:       binary,
		Name:         "hs1",
		Folder:       filepath.Join(t.TempDir(), "hs1"),
		SharedSecret: "complement",
		Authority:    authority,
		Log:          "warn",
		Timeout:      30 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Kill)
	return server
}

func post(t *testing.T, server *Server, path string, body map[string]any) (int, map[string]any) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Post(server.ClientURL()+path, "application/json", bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer map[string]any
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, answer
}

func TestAServerThatIsStartedAgainHasItsDataAndItsAddress(t *testing.T) {
	server := start(t, authority(t))
	alice := map[string]any{
		"username": "alice", "password": "a password that is long enough",
		"auth": map[string]any{"type": "m.login.dummy"},
	}
	if status, answer := post(t, server, "/_matrix/client/v3/register", alice); status != http.StatusOK {
		t.Fatal(status, answer)
	}
	url := server.ClientURL()
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := http.Get(url); err == nil {
		t.Fatal("a server that is stopped answers")
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	status, answer := post(t, server, "/_matrix/client/v3/register", alice)
	if server.ClientURL() != url || status != http.StatusBadRequest || answer["errcode"] != "M_USER_IN_USE" {
		t.Fatal(status, answer)
	}
}

func TestAPausedServerAnswersWhenItGoesOn(t *testing.T) {
	server := start(t, authority(t))
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		response, err := http.Get(server.ClientURL() + "/_matrix/client/versions")
		if err == nil {
			response.Body.Close()
		}
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Fatal("a paused server answers", err)
	case <-time.After(100 * time.Millisecond):
	}
	if err := server.Unpause(); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
}

func TestOtherServersSeeACertificateOfTheAuthority(t *testing.T) {
	authority := authority(t)
	server := start(t, authority)
	roots := x509.NewCertPool()
	roots.AddCert(authority.Certificate)
	connection, err := tls.Dial("tcp", server.FederationHost(), &tls.Config{ServerName: "hs1", RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	connection.Close()
}

func TestServersHaveAddressesOfTheirOwn(t *testing.T) {
	authority := authority(t)
	one, two := start(t, authority), start(t, authority)
	if one.Address() == two.Address() {
		t.Fatal(one.Address())
	}
}
