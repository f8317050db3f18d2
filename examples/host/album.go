package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"byol"
)

// What one album may hold.
const (
	maxClasses  = 100
	maxPictures = 20_000
	// Every fourth picture of a class is kept from learning, to see how well it goes.
	holdOut = 4
)

// An album is named classes of pictures, known by their features, and the head that was learned from them. Whenever it
// changes, a goroutine learns anew; a fit that is overtaken by the next change is stopped.
type album struct {
	encoder *byol.Encoder
	changed chan struct{}
	done    chan struct{}

	mutex    sync.Mutex
	classes  []class
	head     *byol.Head
	names    []string // the classes that head knows
	overtake context.CancelFunc
	state    state
	told     chan struct{} // closed at the next change of state
}

type class struct {
	name string
	rows [][]float32
}

// A state is what the page shows.
type state struct {
	Classes  []classState `json:"classes"`
	Learning bool         `json:"learning"`
	// Iteration and Gap tell how far the fit is: the proven distance from the best head.
	Iteration int     `json:"iteration"`
	Gap       float64 `json:"gap"`
	Ready     bool    `json:"ready"`
	Error     string  `json:"error,omitempty"`
	// History is how well it went each time that it learned.
	History []score `json:"history"`
}

type classState struct {
	Name     string `json:"name"`
	Pictures int    `json:"pictures"`
}

type score struct {
	Pictures int `json:"pictures"` // learned from
	Right    int `json:"right"`
	Others   int `json:"others"` // kept from learning
}

func newAlbum(ctx context.Context, encoder *byol.Encoder) *album {
	a := &album{
		encoder: encoder, changed: make(chan struct{}, 1), done: make(chan struct{}), told: make(chan struct{}),
		overtake: func() {}, state: state{Classes: []classState{}, History: []score{}},
	}
	go func() {
		defer close(a.done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-a.changed:
				a.learn(ctx)
			}
		}
	}()
	return a
}

// close waits for the learning goroutine, whose context must be done.
func (a *album) close() {
	<-a.done
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.head.Close()
}

// A fullError says that an album takes no more.
type fullError string

func (e fullError) Error() string { return string(e) }

// add puts pictures into a class, which may be a new one.
func (a *album) add(name string, features byol.Matrix) error {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	total, at := 0, -1
	for i, c := range a.classes {
		total += len(c.rows)
		if c.name == name {
			at = i
		}
	}
	if total+features.Rows > maxPictures {
		return fullError(fmt.Sprintf("an album holds %d pictures", maxPictures))
	}
	if at < 0 {
		if len(a.classes) == maxClasses {
			return fullError(fmt.Sprintf("an album holds %d classes", maxClasses))
		}
		at = len(a.classes)
		a.classes = append(a.classes, class{name: name})
	}
	for i := range features.Rows {
		a.classes[at].rows = append(a.classes[at].rows, features.Row(i))
	}
	a.change()
	return nil
}

// remove takes a class away, and says whether there was one.
func (a *album) remove(name string) bool {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	for i, c := range a.classes {
		if c.name == name {
			a.classes = append(a.classes[:i:i], a.classes[i+1:]...)
			a.change()
			return true
		}
	}
	return false
}

// change has the album learned anew; the mutex is held.
func (a *album) change() {
	a.state.Classes = make([]classState, len(a.classes))
	for i, c := range a.classes {
		a.state.Classes[i] = classState{c.name, len(c.rows)}
	}
	a.overtake()
	a.tell()
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

// tell wakes those who wait for a change of state; the mutex is held.
func (a *album) tell() {
	close(a.told)
	a.told = make(chan struct{})
}

// watch gives the state, and a channel that is closed when it is no longer so.
func (a *album) watch() (state, <-chan struct{}) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return a.state, a.told
}

func (a *album) learn(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var names []string
	var learn, others, all examples
	a.mutex.Lock()
	a.overtake = cancel
	for label, c := range a.classes {
		names = append(names, c.name)
		for i, row := range c.rows {
			all.add(row, label)
			if i%holdOut == holdOut-1 {
				others.add(row, label)
			} else {
				learn.add(row, label)
			}
		}
	}
	a.state.Learning, a.state.Iteration, a.state.Gap, a.state.Error = true, 0, 1, ""
	a.tell()
	a.mutex.Unlock()

	head, seen, err := a.fit(ctx, names, learn, others, all)
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.state.Learning = false
	switch {
	case errors.Is(err, context.Canceled): // overtaken, or the program ends
	case err != nil:
		// What can't be learned yet, such as one class only, is not there to classify with.
		a.replace(nil, nil)
		if len(names) > 1 {
			a.state.Error = err.Error()
		}
	default:
		a.replace(head, names)
		a.state.History = append(a.state.History[max(0, len(a.state.History)-99):], seen)
	}
	a.tell()
}

func (a *album) replace(head *byol.Head, names []string) {
	// Whoever classifies with the old one just now gets his answer.
	a.head.Close()
	a.head, a.names, a.state.Ready = head, names, head != nil
}

// fit learns from a part to see how well it goes, then from all.
func (a *album) fit(ctx context.Context, names []string, learn, others, all examples) (*byol.Head, score, error) {
	options := byol.FitOptions{Classes: names, Encoder: a.encoder, Progress: func(p byol.FitProgress) error {
		a.mutex.Lock()
		defer a.mutex.Unlock()
		a.state.Iteration, a.state.Gap = p.Iteration, min(p.Gap, 1)
		a.tell()
		return nil
	}}
	seen := score{Pictures: all.features.Rows, Others: others.features.Rows}
	if others.features.Rows > 0 {
		trial, _, err := byol.Fit(ctx, learn.features, learn.labels, &options)
		if err != nil {
			return nil, seen, err
		}
		defer trial.Close()
		prediction, err := trial.Predict(others.features)
		if err != nil {
			return nil, seen, err
		}
		for i, label := range prediction.Labels {
			if label == others.labels[i] {
				seen.Right++
			}
		}
	}
	head, _, err := byol.Fit(ctx, all.features, all.labels, &options)
	return head, seen, err
}

// classify gives the names of the classes and, of each row, their probabilities.
func (a *album) classify(features byol.Matrix) ([]string, byol.Matrix, error) {
	for {
		head, names := a.learned()
		p, err := head.Predict(features)
		if now, _ := a.learned(); errors.Is(err, byol.ErrClosed) && now != head {
			continue // it was just replaced by a better one
		}
		return names, p.Probabilities, err
	}
}

func (a *album) learned() (*byol.Head, []string) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return a.head, a.names
}

// file gives the bytes of the head's file.
func (a *album) file() ([]byte, error) {
	head, _ := a.learned()
	return head.MarshalBinary()
}

// Examples are rows of features and their labels.
type examples struct {
	features byol.Matrix
	labels   []uint32
}

func (e *examples) add(row []float32, label int) {
	e.features.Data = append(e.features.Data, row...)
	e.features.Rows, e.features.Columns = e.features.Rows+1, len(row)
	e.labels = append(e.labels, uint32(label))
}
