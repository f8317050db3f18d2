package main

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A browser is headless Chromium, told what to do by chromedriver (https://www.w3.org/TR/webdriver2/).
type browser struct {
	t       *testing.T
	session string
}

func openBrowser(t *testing.T) *browser {
	t.Helper()
	driver, err := exec.LookPath("chromedriver")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("THE PAGE IS NOT TESTED HERE: that needs chromium and chromedriver")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	listener.Close()
	command := exec.Command(driver, fmt.Sprintf("--port=%d", port))
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	b := &browser{t: t, session: fmt.Sprintf("http://127.0.0.1:%d", port)}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	for i := 0; ; i++ {
		if response, err := http.Get(b.session + "/status"); err == nil {
			response.Body.Close()
			break
		} else if i == 100 {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	options := map[string]any{"args": []string{"--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--window-size=1200,900", "--user-data-dir=" + t.TempDir()}}
	var opened struct{ SessionID string }
	b.call("/session", map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{"goog:chromeOptions": options,
		"goog:loggingPrefs": map[string]string{"browser": "ALL"}}}}, &opened)
	b.session += "/session/" + opened.SessionID
	t.Cleanup(func() {
		request, _ := http.NewRequest(http.MethodDelete, b.session, nil)
		if response, err := http.DefaultClient.Do(request); err == nil {
			response.Body.Close()
		}
	})
	return b
}

func (b *browser) call(path string, with, value any) {
	b.t.Helper()
	body, err := json.Marshal(with)
	if err != nil {
		b.t.Fatal(err)
	}
	request := func() (*http.Response, error) {
		if with == nil {
			return http.Get(b.session + path)
		}
		return http.Post(b.session+path, "application/json", bytes.NewReader(body))
	}
	response, err := request()
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	reply := struct{ Value any }{value}
	if err := json.Unmarshal(text, &reply); err != nil || response.StatusCode != http.StatusOK {
		b.t.Fatalf("%s: %v %s", path, err, text)
	}
}

// find gives the path of an element.
func (b *browser) find(selector string) string {
	b.t.Helper()
	var found map[string]string
	b.call("/element", map[string]string{"using": "css selector", "value": selector}, &found)
	for _, id := range found {
		return "/element/" + id
	}
	return ""
}

func (b *browser) write(selector, text string) {
	b.t.Helper()
	var nothing any
	b.call(b.find(selector)+"/value", map[string]string{"text": text}, &nothing)
}

// ask runs a script and gives what it returns.
func (b *browser) ask(script string) (value any) {
	b.t.Helper()
	b.call("/execute/sync", map[string]any{"script": script, "args": []any{}}, &value)
	return value
}

func (b *browser) until(script string) {
	b.t.Helper()
	for range 150 {
		if b.ask(script) == true {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	b.t.Fatalf("never so: %s\nthe page says: %v", script, b.ask("return document.body.innerText"))
}

// samples writes the first pictures of a class of a data set as PNG files, and gives their paths.
func samples(t *testing.T, part string, class byte, count int) string {
	t.Helper()
	unpack := func(name string) []byte {
		packed, err := os.Open("../data/fashion-mnist/" + name + "-ubyte.gz")
		if err != nil {
			t.Fatal(err)
		}
		defer packed.Close()
		reader, err := gzip.NewReader(packed)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	pixels, labels := unpack(part + "-images-idx3")[16:], unpack(part + "-labels-idx1")[8:]
	var all []string
	for i, label := range labels {
		if label != class || len(all) == count {
			continue
		}
		m := image.Gray{Pix: pixels[i*784 : (i+1)*784], Stride: 28, Rect: image.Rect(0, 0, 28, 28)}
		path := filepath.Join(t.TempDir(), fmt.Sprintf("%s-%d.png", part, i))
		out, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(png.Encode(out, &m), out.Close()); err != nil {
			t.Fatal(err)
		}
		all = append(all, path)
	}
	return strings.Join(all, "\n")
}

func TestThePageInABrowser(t *testing.T) {
	b := openBrowser(t)
	server, a := start(t)
	var nothing any
	b.call("/url", map[string]string{"url": server.URL}, &nothing)
	b.until(`return document.getElementById("status").textContent.startsWith("0 classes")`)
	names, labels := []string{"trousers", "coat", "sneaker", "bag"}, []byte{1, 4, 7, 8}
	const each = 12
	// Pictures of a class come in when they come.
	for _, count := range []int{3, each} {
		for i, name := range names {
			all := strings.Split(samples(t, "train", labels[i], each), "\n")
			have := map[int]int{3: 0, each: 3}[count]
			b.write("#name", name)
			b.write("#teach", strings.Join(all[have:count], "\n"))
			b.until(fmt.Sprintf(`return document.querySelectorAll(".class")[%d]?.textContent.includes("%d pictures") ?? false`, i, count))
		}
	}
	wait(t, a, func(s state) bool { return ready(s) && s.History[len(s.History)-1].Pictures == each*len(names) })
	b.until(`return document.body.dataset.ready == "true" && document.getElementById("score").textContent.includes(" of 12 pictures")`)
	right := 0
	for i, name := range names {
		b.write("#classify", samples(t, "t10k", labels[i], 1))
		b.until(fmt.Sprintf(`return document.querySelectorAll(".answer").length == %d`, i+1))
		if b.ask(`return document.querySelector(".answer li span").textContent`) == name {
			right++
		}
	}
	if right < 3 {
		t.Error("of four pictures right:", right)
	}
	b.until(`return [...document.images].every((image) => image.complete && image.naturalWidth == 28)`)
	var encoded string
	b.call("/screenshot", nil, &encoded)
	picture, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || !bytes.HasPrefix(picture, []byte("\x89PNG")) {
		t.Fatal(err)
	}
	if path := os.Getenv("BYOL_TEST_SCREENSHOT"); path != "" {
		if err := os.WriteFile(path, picture, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// Names are text, never markup.
	b.write("#name", "<b>bold</b>")
	b.write("#teach", samples(t, "train", 9, 1))
	b.until(`return document.querySelectorAll(".class").length == 5`)
	if b.ask(`return document.querySelector(".class:last-child b").textContent`) != "<b>bold</b>" {
		t.Error("a name became markup")
	}
	// A file that is none is said so, and a dropped one is taken as a chosen one.
	none := filepath.Join(t.TempDir(), "none.png")
	if err := os.WriteFile(none, []byte("no picture"), 0o644); err != nil {
		t.Fatal(err)
	}
	b.write("#classify", none)
	b.until(`return document.querySelector(".answer .refused")?.textContent.includes("none.png: not a picture") ?? false`)
	b.ask(`const transfer = new DataTransfer();
		transfer.items.add(new File(["no picture"], "dropped.png"));
		document.getElementById("classify-drop").dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));`)
	b.until(`return document.querySelector(".answer .refused")?.textContent.includes("dropped.png: not a picture") ?? false`)
	b.ask(`document.querySelector(".class button").click()`)
	b.until(`return document.querySelectorAll(".class").length == 4`)
	// Everything came from the program itself, and nothing was refused by the page's own rules.
	foreign, _ := b.ask(`return performance.getEntriesByType("resource").map((e) => e.name).filter((n) => !n.startsWith(location.origin) && !n.startsWith("blob:" + location.origin))`).([]any)
	if len(foreign) != 0 {
		t.Error("the page asked for", foreign)
	}
	var said []struct{ Level, Message string }
	b.call("/se/log", map[string]string{"type": "browser"}, &said)
	said = slices.DeleteFunc(said, func(e struct{ Level, Message string }) bool { return e.Level != "SEVERE" })
	if len(said) != 0 {
		t.Error("the browser complains:", said)
	}
}
