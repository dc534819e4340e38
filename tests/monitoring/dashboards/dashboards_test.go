// Package dashboards validates the dashboards against Grafana's own types.
package dashboards

import (
	"os"
	"path/filepath"
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
