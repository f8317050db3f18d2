package main

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"byol"
)

const pictures = "../../tests/data/pictures/"

// start runs a server on loopback, as main does.
func start(t *testing.T) (*httptest.Server, *album) {
	t.Helper()
	path := os.Getenv("BYOL_TEST_ENCODER")
	if path == "" {
		t.Fatal("BYOL_TEST_ENCODER is not set: run tests/host.sh")
	}
	encoder, err := byol.OpenEncoder(byol.File(path), &byol.EncoderOptions{MaxImagePixels: maxPixels, MaxImageBytes: maxFileBytes})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	a := newAlbum(ctx, encoder)
	server := httptest.NewServer(newServer(a))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		stop()
		a.close()
		encoder.Close()
	})
	return server, a
}

type file struct {
	name string
	data []byte
}

func form(t *testing.T, class string, files ...file) (string, *bytes.Buffer) {
	t.Helper()
	body := &bytes.Buffer{}
	w := multipart.NewWriter(body)
	if err := w.WriteField("class", class); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		part, err := w.CreateFormFile("picture", f.name)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = part.Write(f.data)
	}
	w.Close()
	return w.FormDataContentType(), body
}

// post sends a form and gives the status and the body.
func post(t *testing.T, url, class string, files ...file) (int, []byte) {
	t.Helper()
	kind, body := form(t, class, files...)
	return send(t, url, kind, body, nil)
}

func send(t *testing.T, url, kind string, body io.Reader, header map[string]string) (int, []byte) {
	t.Helper()
	request, err := http.NewRequest(http.MethodPost, url, body)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", kind)
	for key, value := range header {
		if request.Header.Set(key, value); key == "Host" {
			request.Host = value
		}
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	return response.StatusCode, text
}

func picture(t *testing.T, name string) file {
	t.Helper()
	data, err := os.ReadFile(pictures + name)
	if err != nil {
		t.Fatal(err)
	}
	return file{filepath.Base(name), data}
}

// wait waits until the state is as wanted, and gives it.
func wait(t *testing.T, a *album, wanted func(state) bool) state {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		now, changed := a.watch()
		if wanted(now) {
			return now
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("it stays %+v", now)
		}
	}
}

func ready(s state) bool { return s.Ready && !s.Learning }

func TestItLearnsAndClassifies(t *testing.T) {
	server, a := start(t)
	one := picture(t, "bag/3.png")
	if status, text := post(t, server.URL+"/api/classify", "", one); status != http.StatusConflict {
		t.Fatal(status, string(text))
	}
	for _, class := range []string{"bag", "sneaker", "trouser"} {
		status, text := post(t, server.URL+"/api/teach", class, picture(t, class+"/0.png"), picture(t, class+"/1.png"),
			picture(t, class+"/2.png"))
		if status != http.StatusOK {
			t.Fatal(status, string(text))
		}
	}
	now := wait(t, a, func(s state) bool {
		return ready(s) && len(s.Classes) == 3 && s.History[len(s.History)-1].Pictures == 9
	})
	if now.Error != "" || now.Iteration == 0 || now.Gap > 1e-6 {
		t.Errorf("%+v", now)
	}
	for _, class := range []string{"bag", "sneaker", "trouser"} {
		_, text := post(t, server.URL+"/api/classify", "", picture(t, class+"/3.png"))
		var found []answer
		if err := json.Unmarshal(text, &found); err != nil || len(found) != 1 || len(found[0].Probabilities) != 3 {
			t.Fatal(err, string(text))
		}
		sum := float32(0)
		for _, p := range found[0].Probabilities {
			sum += p.Value
			if p.Class != class && p.Value > 0.5 {
				t.Errorf("%s looks like %s: %v", class, p.Class, found)
			}
		}
		if sum < 0.999 || sum > 1.001 {
			t.Error(found)
		}
	}
	// What was learned leaves as a file that byol reads.
	response, err := http.Get(server.URL + "/api/head")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	head, err := byol.ReadHead(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	defer head.Close()
	if names, err := head.ClassNames(); err != nil || len(names) != 3 || names[2] != "trouser" {
		t.Error(names, err)
	}
	// And what is forgotten is not found again.
	kind, body := form(t, "bag")
	if status, _ := send(t, server.URL+"/api/forget", kind, body, nil); status != http.StatusOK {
		t.Error(status)
	}
	wait(t, a, func(s state) bool { return ready(s) && len(s.Classes) == 2 })
	_, text := post(t, server.URL+"/api/classify", "", one)
	if strings.Contains(string(text), `"bag"`) {
		t.Error(string(text))
	}
	if status, _ := post(t, server.URL+"/api/forget", "bag"); status != http.StatusNotFound {
		t.Error(status)
	}
}

func TestEventsTellEveryChange(t *testing.T) {
	server, _ := start(t)
	response, err := http.Get(server.URL + "/api/events")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	next := func() (s state) {
		for lines.Scan() {
			if data, found := strings.CutPrefix(lines.Text(), "data: "); found {
				if err := json.Unmarshal([]byte(data), &s); err != nil {
					t.Fatal(err)
				}
				return s
			}
		}
		t.Fatal("the events ended")
		return s
	}
	if s := next(); len(s.Classes) != 0 || s.Ready {
		t.Error(s)
	}
	post(t, server.URL+"/api/teach", "bag", picture(t, "bag/0.png"))
	post(t, server.URL+"/api/teach", "sneaker", picture(t, "sneaker/0.png"))
	// How often it tells while it learns is a matter of milliseconds; that it tells the end is not.
	last := next()
	for !ready(last) {
		last = next()
	}
	if len(last.Classes) != 2 || last.Iteration == 0 || len(last.History) == 0 {
		t.Errorf("%+v", last)
	}
}

// bomb is a small file of a picture that would take much memory.
func bomb(side uint32) []byte {
	out := bytes.NewBufferString("\x89PNG\r\n\x1a\n")
	chunk := func(kind string, data []byte) {
		_ = binary.Write(out, binary.BigEndian, uint32(len(data)))
		out.WriteString(kind)
		out.Write(data)
		_ = binary.Write(out, binary.BigEndian, crc32.ChecksumIEEE(append([]byte(kind), data...)))
	}
	head := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, side), side)
	chunk("IHDR", append(head, 8, 0, 0, 0, 0))
	var pixels bytes.Buffer
	z := zlib.NewWriter(&pixels)
	_, _ = z.Write(make([]byte, 1<<20))
	z.Close()
	chunk("IDAT", pixels.Bytes())
	chunk("IEND", nil)
	return out.Bytes()
}

func TestHostileUploadsAreRefused(t *testing.T) {
	server, a := start(t)
	teach, classify := server.URL+"/api/teach", server.URL+"/api/classify"
	good := picture(t, "bag/0.png")
	// Bad pictures are named; the good one beside them is taken.
	status, text := post(t, teach, "bag", file{"<script>.png", []byte("no picture")}, good, file{"", nil},
		file{"bomb.png", bomb(60_000)}, file{"cut.png", good.data[:len(good.data)/2]})
	var found []answer
	if err := json.Unmarshal(text, &found); err != nil || status != http.StatusOK || len(found) != 5 {
		t.Fatal(status, string(text))
	}
	for i, answer := range found {
		if (answer.Refused == "") != (i == 1) {
			t.Errorf("%d: %+v", i, answer)
		}
	}
	if !strings.Contains(found[3].Refused, "million pixels") {
		t.Error(found[3])
	}
	wait(t, a, func(s state) bool { return len(s.Classes) == 1 && s.Classes[0].Pictures == 1 })
	many := make([]file, maxFiles+1)
	for i := range many {
		many[i] = good
	}
	for _, c := range []struct {
		what   string
		status int
		class  string
		files  []file
	}{
		{"a large file", 413, "bag", []file{{"a", make([]byte, maxFileBytes+1)}}},
		{"a large upload", 413, "bag", []file{{"a", make([]byte, maxFileBytes)}, {"b", make([]byte, maxFileBytes)},
			{"c", make([]byte, maxFileBytes)}, {"d", make([]byte, maxFileBytes)}, {"e", make([]byte, maxFileBytes)}}},
		{"many files", 413, "bag", many},
		{"no files", 400, "bag", nil},
		{"no name", 400, " \t ", []file{good}},
		{"a long name", 400, strings.Repeat("n", maxName+1), []file{good}},
		{"an endless name", 413, strings.Repeat("n", 10_000), []file{good}},
		{"a name with a NUL", 400, "a\x00b", []file{good}},
		{"a name that turns the text around", 400, "a\u202eb", []file{good}},
		{"a name that is no text", 400, "a\xff", []file{good}},
	} {
		if status, text := post(t, teach, c.class, c.files...); status != c.status || !bytes.Contains(text, []byte(`"error"`)) {
			t.Errorf("%s: %d %s", c.what, status, text)
		}
	}
	if status, _ := send(t, classify, "text/plain", strings.NewReader("hello"), nil); status != 400 {
		t.Error(status)
	}
	if status, _ := send(t, classify, "multipart/form-data; boundary=x", strings.NewReader("--x\r\nbroken"), nil); status != 400 {
		t.Error(status)
	}
	kind, body := form(t, "bag", good)
	form := body.Bytes()
	for header, value := range map[string]string{"Sec-Fetch-Site": "cross-site", "Host": "evil.example"} {
		if status, text := send(t, teach, kind, bytes.NewReader(form), map[string]string{header: value}); status != 403 {
			t.Errorf("%s: %d %s", header, status, text)
		}
	}
	for path, status := range map[string]int{"/../server.go": 404, "/api/teach": 404, "/server.go": 404, "/": 200, "/page.js": 200} {
		response, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != status || !strings.Contains(response.Header.Get("Content-Security-Policy"), "'self'") {
			t.Errorf("%s: %d", path, response.StatusCode)
		}
	}
	if now, _ := a.watch(); len(now.Classes) != 1 || now.Classes[0].Pictures != 1 {
		t.Errorf("something got in: %+v", now.Classes)
	}
}

func TestManyVisitorsAtOnce(t *testing.T) {
	server, a := start(t)
	var all sync.WaitGroup
	for visitor := range 8 {
		all.Add(1)
		go func() {
			defer all.Done()
			class := []string{"bag", "sneaker", "trouser"}[visitor%3]
			for i := range 12 {
				one := picture(t, fmt.Sprintf("%s/%d.png", class, i%4))
				if status, text := post(t, server.URL+"/api/teach", class, one); status != http.StatusOK {
					t.Error(status, string(text))
				}
				if status, text := post(t, server.URL+"/api/classify", "", one); status != http.StatusOK && status != http.StatusConflict {
					t.Error(status, string(text))
				}
			}
		}()
	}
	all.Wait()
	now := wait(t, a, func(s state) bool { return ready(s) && s.History[len(s.History)-1].Pictures == 96 })
	if last := now.History[len(now.History)-1]; last.Right < last.Others*9/10 {
		t.Error(last)
	}
	if live := byol.LiveHandles(byol.KindHead); live != 1 {
		t.Error(live, "heads are open")
	}
}

func TestItListensOnThisMachineOnlyAndStopsWhenAsked(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- serve(ctx, os.Getenv("BYOL_TEST_ENCODER"), "127.0.0.1:0") }()
	time.Sleep(300 * time.Millisecond)
	stop()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it goes on")
	}
	if err := serve(context.Background(), "/no/such.onnx", "127.0.0.1:0"); err == nil || !strings.Contains(err.Error(), "/no/such.onnx") {
		t.Error(err)
	}
}
