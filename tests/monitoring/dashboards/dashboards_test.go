// Package dashboards validates the dashboards against Grafana's own types.
package dashboards

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

const folder = "../../../charts/vigie/files/dashboards"

func check(content []byte) error {
	plugins.RegisterDefaultPlugins()
	board := dashboard.Dashboard{}
	if err := board.UnmarshalJSONStrict(content); err != nil {
		return err
	}
	return board.Validate()
}

// panel has the parts of a panel that decide whether it shows old data as present.
type panel struct {
	Type    string
	Title   string
	Panels  []panel
	Targets []struct {
		Expr           string
		Instant, Range bool
	}
	Options     struct{ ReduceOptions struct{ Calcs []string } }
	FieldConfig struct {
		Defaults struct {
			NoValue string
			Custom  struct{ InsertNulls any }
		}
	}
}

// outdated lists the panels that go on showing the last value of series that have ended. A range query that is reduced to
// its last value stays green for the whole range after the operator has gone, and a timeline without insertNulls draws
// the last state over missing data (grafana#10524, grafana#35541).
func outdated(content []byte) (found []string) {
	board := struct{ Panels []panel }{}
	if err := json.Unmarshal(content, &board); err != nil {
		return []string{err.Error()}
	}
	var visit func([]panel)
	visit = func(panels []panel) {
		for _, p := range panels {
			visit(p.Panels)
			for _, t := range p.Targets {
				if len(p.Options.ReduceOptions.Calcs) > 0 && (t.Range || !t.Instant) {
					found = append(found, fmt.Sprintf("%s reduces a range query: %s", p.Title, t.Expr))
				}
				// Without any series, zero leaders is true; every other zero would be invented.
				if strings.Contains(t.Expr, "or vector(") && !strings.HasPrefix(t.Expr, "sum(vigie_leader)") {
					found = append(found, fmt.Sprintf("%s shows a number without data: %s", p.Title, t.Expr))
				}
			}
			if p.Type == "stat" && p.FieldConfig.Defaults.NoValue == "" {
				found = append(found, p.Title+" has no text for missing data")
			}
			if p.Type == "state-timeline" && p.FieldConfig.Defaults.Custom.InsertNulls == nil {
				found = append(found, p.Title+" draws the last state over missing data")
			}
		}
	}
	visit(board.Panels)
	return found
}

func TestNoPanelShowsOldDataAsPresent(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join(folder, "*.json"))
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, problem := range outdated(content) {
			t.Errorf("%s: %s", filepath.Base(file), problem)
		}
	}
	for name, content := range map[string]string{
		"a range query, reduced": `{"panels": [{"panels": [{"type": "stat", "targets": [{"expr": "up", "range": true}],
			"options": {"reduceOptions": {"calcs": ["lastNotNull"]}}, "fieldConfig": {"defaults": {"noValue": "-"}}}]}]}`,
		"an invented zero":    `{"panels": [{"type": "table", "targets": [{"expr": "count(x) or vector(0)", "instant": true}]}]}`,
		"no text for nothing": `{"panels": [{"type": "stat"}]}`,
		"a state to the end":  `{"panels": [{"type": "state-timeline"}]}`,
	} {
		if len(outdated([]byte(content))) != 1 {
			t.Errorf("%s passes", name)
		}
	}
}

func TestEveryDashboardFitsGrafanasSchema(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil || len(files) != 2 {
		t.Fatalf("two dashboards are expected in %s, found %v (%v)", folder, files, err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := check(content); err != nil {
			t.Errorf("%s: %v", filepath.Base(file), err)
		}
	}
}

func TestWhatDoesNotFitIsFound(t *testing.T) {
	for name, content := range map[string]string{
		"an unknown field":      `{"title": "x", "pannels": []}`,
		"a number for a title":  `{"title": 1}`,
		"an unknown option":     `{"panels": [{"type": "stat", "options": {"colour": "red"}}]}`,
		"a mistyped grid place": `{"panels": [{"type": "stat", "gridPos": {"h": "tall", "w": 1, "x": 0, "y": 0}}]}`,
	} {
		if check([]byte(content)) == nil {
			t.Errorf("%s passes", name)
		}
	}
}
