package main

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"byol"
)

// What one upload may hold.
const (
	maxBodyBytes = 64 << 20
	maxFileBytes = 16 << 20
	maxPixels    = 40_000_000
	maxFiles     = 200
	maxName      = 64
	// Uploads that are worked on at the same time; each may hold maxBodyBytes.
	maxUploads = 4
)

//go:embed page
var page embed.FS

// A server is the album over HTTP.
type server struct {
	album   *album
	uploads chan struct{}
}

func newServer(a *album) http.Handler {
	s := &server{album: a, uploads: make(chan struct{}, maxUploads)}
	files, err := fs.Sub(page, "page")
	if err != nil {
		panic(err) // the folder is compiled in
	}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(files))
	mux.HandleFunc("GET /api/events", s.events)
	mux.HandleFunc("GET /api/head", s.head)
	mux.HandleFunc("POST /api/teach", s.teach)
	mux.HandleFunc("POST /api/forget", s.forget)
	mux.HandleFunc("POST /api/classify", s.classify)
	return guarded(mux)
}

// guarded answers only pages of its own. Other sites' pages run in the same browser: they are told apart by where they say
// they come from, and by the name under which they reach this machine.
func guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", "default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'")
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "no-referrer")
		local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		if isLoopback(hostOf(fmt.Sprint(local))) && !isLoopback(hostOf(r.Host)) {
			fail(w, http.StatusForbidden, "this is not "+r.Host)
			return
		}
		if site := r.Header.Get("Sec-Fetch-Site"); r.Method != http.MethodGet && site != "" && site != "same-origin" && site != "none" {
			fail(w, http.StatusForbidden, "a page of another site asked for this")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func hostOf(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return strings.Trim(address, "[]")
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// A tooLarge is a request that goes beyond a limit.
type tooLarge string

func (e tooLarge) Error() string { return string(e) }

// An upload is the named files of a form, and its text field "class".
type upload struct {
	class string
	names []string
	files [][]byte
}

// read reads an upload, which is never more than maxBodyBytes in memory and nothing on disk.
func read(w http.ResponseWriter, r *http.Request) (upload, error) {
	var u upload
	r.Body = http.MaxBytesReader(w, r.Body, maxBodyBytes)
	kind, options, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" {
		return u, errors.New("pictures come as multipart/form-data")
	}
	parts := multipart.NewReader(r.Body, options["boundary"])
	for {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			return u, nil
		}
		if err != nil {
			return u, err
		}
		limit := int64(maxFileBytes)
		if part.FormName() == "class" {
			limit = 4 * maxName
		}
		data, err := io.ReadAll(io.LimitReader(part, limit+1))
		if err != nil {
			return u, err
		}
		switch {
		case int64(len(data)) > limit:
			return u, tooLarge(fmt.Sprintf("%s has more than %d bytes", part.FormName(), limit))
		case part.FormName() == "class":
			u.class = string(data)
		case part.FormName() == "picture":
			if len(u.files) == maxFiles {
				return u, tooLarge(fmt.Sprintf("at most %d pictures at once", maxFiles))
			}
			u.names, u.files = append(u.names, part.FileName()), append(u.files, data)
		}
	}
}

// features reads an upload and extracts its pictures' features. Bad pictures have a status and no features.
func (s *server) features(w http.ResponseWriter, r *http.Request) (upload, byol.Matrix, []byol.Status, bool) {
	select {
	case s.uploads <- struct{}{}:
		defer func() { <-s.uploads }()
	case <-r.Context().Done():
		return upload{}, byol.Matrix{}, nil, false
	}
	u, err := read(w, r)
	var tooLong *http.MaxBytesError
	var large tooLarge
	switch {
	case errors.As(err, &tooLong):
		fail(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("an upload has at most %d MiB", maxBodyBytes>>20))
	case errors.As(err, &large):
		fail(w, http.StatusRequestEntityTooLarge, err.Error())
	case err != nil:
		fail(w, http.StatusBadRequest, err.Error())
	case len(u.files) == 0:
		fail(w, http.StatusBadRequest, "there is no picture in this upload")
	default:
		statuses := make([]byol.Status, len(u.files))
		// A visitor who leaves stops the work.
		features, err := s.album.encoder.ExtractEncoded(r.Context(), u.files, &byol.ExtractOptions{Statuses: statuses})
		if err == nil {
			return u, features, statuses, true
		}
		if !errors.Is(err, context.Canceled) {
			fail(w, http.StatusInternalServerError, err.Error())
		}
	}
	return u, byol.Matrix{}, nil, false
}

// An answer about one picture.
type answer struct {
	Name          string        `json:"name"`
	Refused       string        `json:"refused,omitempty"`
	Probabilities []probability `json:"probabilities,omitempty"`
}

type probability struct {
	Class string  `json:"class"`
	Value float32 `json:"value"`
}

// answers names the pictures, and why some were refused.
func answers(u upload, statuses []byol.Status) []answer {
	all := make([]answer, len(u.names))
	for i, name := range u.names {
		all[i].Name = name
		switch statuses[i] {
		case byol.OK:
		case byol.ErrImageDecode:
			all[i].Refused = "not a picture that can be read (JPEG, PNG, WebP, BMP, GIF, TIFF)"
		case byol.ErrLimit:
			all[i].Refused = fmt.Sprintf("more than %d million pixels", maxPixels/1_000_000)
		default:
			all[i].Refused = statuses[i].Name()
		}
	}
	return all
}

func (s *server) teach(w http.ResponseWriter, r *http.Request) {
	u, features, statuses, ok := s.features(w, r)
	if !ok {
		return
	}
	name, err := className(u.class)
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	good := byol.Matrix{Columns: features.Columns}
	for i, status := range statuses {
		if status == byol.OK {
			good.Data = append(good.Data, features.Row(i)...)
			good.Rows++
		}
	}
	if good.Rows > 0 {
		if err := s.album.add(name, good); err != nil {
			fail(w, http.StatusInsufficientStorage, err.Error())
			return
		}
	}
	reply(w, answers(u, statuses))
}

func className(text string) (string, error) {
	name := strings.TrimSpace(text)
	if name == "" || !utf8.ValidString(name) || utf8.RuneCountInString(name) > maxName ||
		strings.ContainsFunc(name, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return "", fmt.Errorf("a class has a name of 1 to %d printable characters", maxName)
	}
	return name, nil
}

func (s *server) forget(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 16*maxName)
	if !s.album.remove(r.FormValue("class")) {
		fail(w, http.StatusNotFound, "there is no such class")
		return
	}
	reply(w, struct{}{})
}

func (s *server) classify(w http.ResponseWriter, r *http.Request) {
	u, features, statuses, ok := s.features(w, r)
	if !ok {
		return
	}
	names, probabilities, err := s.album.classify(features)
	if errors.Is(err, byol.ErrClosed) {
		fail(w, http.StatusConflict, "nothing was learned yet: name pictures of two classes first")
		return
	}
	if err != nil {
		fail(w, http.StatusInternalServerError, err.Error())
		return
	}
	all := answers(u, statuses)
	for i := range all {
		if statuses[i] == byol.OK {
			for c, value := range probabilities.Row(i) {
				all[i].Probabilities = append(all[i].Probabilities, probability{names[c], value})
			}
		}
	}
	reply(w, all)
}

func (s *server) head(w http.ResponseWriter, _ *http.Request) {
	file, err := s.album.file()
	if err != nil {
		fail(w, http.StatusConflict, "nothing was learned yet")
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", `attachment; filename="head.safetensors"`)
	_, _ = w.Write(file)
}

// events tells the state, and again whenever it changes.
func (s *server) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	flusher := http.NewResponseController(w)
	for {
		state, changed := s.album.watch()
		text, err := json.Marshal(state)
		if err != nil {
			return
		}
		if _, err := fmt.Fprintf(w, "data: %s\n\n", text); err != nil || flusher.Flush() != nil {
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

func reply(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}

func fail(w http.ResponseWriter, status int, why string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": why})
}
