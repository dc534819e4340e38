// Package gitops compares the results of config/gitops with recorded statuses of an operator (statuses/).
package gitops

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// wanted is the expected result of each tool for one status.
type wanted struct {
	helm, flux, argo string
	// says must be part of the message that Argo CD shows.
	says string
}

// A connector that is not installed yet is complete for Flux and Argo CD. For Helm 4 it is not: docs/gitops.md gives
// the reason and the remedy.
var table = map[string]wanted{
	"connector-not-reconciled":  {"InProgress", "InProgress", "Progressing", "not looked at it yet"},
	"connector-changed":         {"InProgress", "InProgress", "Progressing", "not looked at it yet"},
	"connector-never-seen":      {"InProgress", "Current", "Healthy", "NeverSeen"},
	"connector-online":          {"Current", "Current", "Healthy", ""},
	"connector-late":            {"Current", "Current", "Healthy", "HeartbeatLate"},
	"connector-offline":         {"InProgress", "Current", "Degraded", "HeartbeatExpired"},
	"connector-unknown":         {"InProgress", "Current", "Progressing", "ObserverRestarted"},
	"connector-degraded":        {"InProgress", "Current", "Degraded", "WireGuardDown"},
	"connector-not-provisioned": {"InProgress", "InProgress", "Degraded", "TokenSecretConflict"},
	"connector-stalled":         {"Failed", "Failed", "Degraded", "DuplicateConnectorID"},
	"connector-stalled-secret":  {"Failed", "Failed", "Degraded", "SecretNotFound"},
	"backend-not-reconciled":    {"InProgress", "InProgress", "Progressing", "not looked at it yet"},
	"backend-pending":           {"InProgress", "Current", "Progressing", "NotProbed"},
	"backend-up":                {"Current", "Current", "Healthy", ""},
	"backend-slow":              {"Current", "Current", "Healthy", "Slow"},
	"backend-degraded":          {"InProgress", "Current", "Degraded", "StillStarting"},
	"backend-down":              {"InProgress", "Current", "Degraded", "ServerError"},
	"backend-unknown":           {"InProgress", "Current", "Progressing", "ProbeBlind"},
	"backend-stalled":           {"Failed", "Failed", "Degraded", "InvalidTarget"},
}

func TestEveryStatusIsReadByEachToolAsIntended(t *testing.T) {
	argo, flux := argoScripts(t), fluxExpressions(t)
	for name, wanted := range table {
		object := stored(t, name)
		if got := helmReads(t, object); got != wanted.helm {
			t.Errorf("%s: Helm 4 says %s, not %s", name, got, wanted.helm)
		}
		if got := flux.reads(t, object); got != wanted.flux {
			t.Errorf("%s: Flux says %s, not %s", name, got, wanted.flux)
		}
		status, message := argo.reads(t, object)
		if status != wanted.argo || !strings.Contains(message, wanted.says) {
			t.Errorf("%s: Argo CD says %s: %q, not %s: …%s…", name, status, message, wanted.argo, wanted.says)
		}
	}
}

func TestEveryStatusThatWasRecordedStandsInTheTable(t *testing.T) {
	files, err := filepath.Glob("statuses/*.yaml")
	if err != nil || len(files) != len(table) {
		t.Errorf("%d files in statuses/, %d in the table (%v)", len(files), len(table), err)
	}
	for _, file := range files {
		if _, listed := table[strings.TrimSuffix(filepath.Base(file), ".yaml")]; !listed {
			t.Errorf("%s is missing in the table", file)
		}
	}
}

// A rollout ends when everything is Current; Argo CD's sync waves end with Healthy and fail with Degraded.
func TestAConnectorThatNobodyHasInstalledHangsNoRollout(t *testing.T) {
	object := stored(t, "connector-never-seen")
	if got := fluxExpressions(t).reads(t, object); got != "Current" {
		t.Errorf("Flux waits: %s", got)
	}
	if got, _ := argoScripts(t).reads(t, object); got != "Healthy" {
		t.Errorf("Argo CD waits: %s", got)
	}
}

func TestAnObjectWithoutAnyStatusIsWaitedFor(t *testing.T) {
	for _, name := range []string{"connector-online", "backend-up"} {
		object := stored(t, name)
		unstructured.RemoveNestedField(object.Object, "status", "conditions")
		if got := fluxExpressions(t).reads(t, object); got != "InProgress" {
			t.Errorf("%s: Flux says %s", name, got)
		}
		object.Object["status"] = nil
		if got, _ := argoScripts(t).reads(t, object); got != "Progressing" {
			t.Errorf("%s: Argo CD says %s", name, got)
		}
	}
}

// stored is the object as the API server stored it.
func stored(t *testing.T, name string) *unstructured.Unstructured {
	t.Helper()
	object := &unstructured.Unstructured{}
	read(t, filepath.Join("statuses", name+".yaml"), &object.Object)
	return object
}

// read parses a YAML file like Kubernetes clients: whole numbers become int64.
func read(t *testing.T, file string, into *map[string]any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text, err = yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	list := &unstructured.Unstructured{}
	// An object without a kind is no Kubernetes object: the fragments get one.
	if err := list.UnmarshalJSON([]byte(strings.Replace(string(text), "{", `{"kind":"Fragment",`, 1))); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	*into = list.Object
}
