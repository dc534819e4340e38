package gitops

import (
	"fmt"
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/ext"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// helmReads returns the result of `helm --wait` of Helm 4 for an unknown kind: kstatus, by Helm's own library.
func helmReads(t *testing.T, object *unstructured.Unstructured) string {
	t.Helper()
	result, err := status.Compute(object)
	if err != nil {
		t.Fatal(err)
	}
	return string(result.Status)
}

// expressions are those of one kind, by the status that each implies.
type expressions map[string]map[string]string

func fluxExpressions(t *testing.T) expressions {
	t.Helper()
	var file map[string]any
	read(t, "../../config/gitops/flux-healthcheckexprs.yaml", &file)
	checks, _, err := unstructured.NestedSlice(file, "healthCheckExprs")
	if err != nil || len(checks) != 2 {
		t.Fatalf("%d checks, %v", len(checks), err)
	}
	all := expressions{}
	for _, check := range checks {
		of := map[string]string{}
		for name, text := range check.(map[string]any) {
			of[name] = text.(string)
		}
		all[of["apiVersion"]+" "+of["kind"]] = of
	}
	return all
}

// reads evaluates in the order that Flux documents (RFC 0009): an unobserved generation, then inProgress, failed,
// current; it reports InProgress when none is true. An expression that fails is an error in Flux and here.
func (all expressions) reads(t *testing.T, object *unstructured.Unstructured) string {
	t.Helper()
	of, known := all[object.GetAPIVersion()+" "+object.GetKind()]
	if !known {
		t.Fatalf("no expressions for %s", object.GetKind())
	}
	observed, found, _ := unstructured.NestedInt64(object.Object, "status", "observedGeneration")
	if found && observed != object.GetGeneration() {
		return "InProgress"
	}
	for _, each := range []struct{ name, status string }{
		{"inProgress", "InProgress"}, {"failed", "Failed"}, {"current", "Current"},
	} {
		if holds(t, of[each.name], object) {
			return each.status
		}
	}
	return "InProgress"
}

// holds evaluates in the environment that Flux gives an expression: the fields of the object by their names.
func holds(t *testing.T, expression string, object *unstructured.Unstructured) bool {
	t.Helper()
	environment, err := cel.NewEnv(cel.HomogeneousAggregateLiterals(), cel.EagerlyValidateDeclarations(true),
		cel.DefaultUTCTimeZone(true), cel.CrossTypeNumericComparisons(true), cel.OptionalTypes(),
		ext.Strings(), ext.Sets(), ext.Encoders())
	if err != nil {
		t.Fatal(err)
	}
	parsed, issues := environment.Parse(expression)
	if issues != nil && issues.Err() != nil {
		t.Fatal(issues.Err())
	}
	program, err := environment.Program(parsed)
	if err != nil {
		t.Fatal(err)
	}
	value, _, err := program.Eval(object.Object)
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	truth, isBool := value.Value().(bool)
	if !isBool {
		t.Fatalf("%s is %v", expression, value)
	}
	return truth
}

// scripts are Argo CD's, by group and kind.
type scripts map[string]string

func argoScripts(t *testing.T) scripts {
	t.Helper()
	var file map[string]any
	read(t, "../../config/gitops/argocd-cm.yaml", &file)
	data, _, err := unstructured.NestedStringMap(file, "data")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// reads runs the script as Argo CD does: with only the base and table libraries, and the object as `obj`.
func (all scripts) reads(t *testing.T, object *unstructured.Unstructured) (string, string) {
	t.Helper()
	kind := object.GroupVersionKind()
	script, known := all[fmt.Sprintf("resource.customizations.health.%s_%s", kind.Group, kind.Kind)]
	if !known {
		t.Fatalf("no script for %s", kind)
	}
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable} {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(open), Protect: true}, lua.LString(name)); err != nil {
			t.Fatal(err)
		}
	}
	state.SetGlobal("obj", value(state, object.Object))
	if err := state.DoString(script); err != nil {
		t.Fatal(err)
	}
	health, isTable := state.Get(-1).(*lua.LTable)
	if !isTable {
		t.Fatalf("the script returns %s", state.Get(-1).Type())
	}
	return health.RawGetString("status").String(), health.RawGetString("message").String()
}

// value converts to the same value in Lua.
func value(state *lua.LState, of any) lua.LValue {
	switch of := of.(type) {
	case bool:
		return lua.LBool(of)
	case string:
		return lua.LString(of)
	case int64:
		return lua.LNumber(of)
	case float64:
		return lua.LNumber(of)
	case []any:
		table := state.NewTable()
		for _, item := range of {
			table.Append(value(state, item))
		}
		return table
	case map[string]any:
		table := state.NewTable()
		for key, item := range of {
			table.RawSetString(key, value(state, item))
		}
		return table
	}
	return lua.LNil
}
