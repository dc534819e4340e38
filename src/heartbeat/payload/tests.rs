use proptest::prelude::*;
use serde_json::json;

use super::*;

const TOKEN: &str = "vgt_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";

fn refused(body: &str) -> BadBeat {
    parse(body.as_bytes(), None).expect_err(body)
}

fn with(field: &str, value: serde_json::Value) -> String {
    let mut beat = json!({"connector_id": "a/b", "token": TOKEN});
    beat[field] = value;
    beat.to_string()
}

#[test]
fn the_founding_beat_is_borrowed_whole() {
    let body = format!(r#"{{"connector_id": "home/gateway-1", "token": "{TOKEN}"}}"#);
    let beat = parse(body.as_bytes(), None).unwrap();
    assert!(matches!(beat.connector_id, Cow::Borrowed("home/gateway-1")));
    assert!(matches!(beat.token, Cow::Borrowed(TOKEN)));
    assert!(beat.sequence.is_none() && beat.checks.is_none() && beat.restart.is_none() && !beat.dry_run);
}

#[test]
fn everything_an_agent_may_say_is_read() {
    let body = json!({
        "connector_id": "a", "token": "t", "boot_id": "b", "sequence": u64::MAX, "version": "1.2", "hostname": "h",
        "pod_uid": "u", "node_name": "n", "sent_at": "2026-01-31T12:00:00+01:00", "dry_run": true, "later": [[1, {}]],
        "checks": [{"type": "NATRules", "status": "Fail", "message": "none", "new": 1}, {"type": "x-1", "status": "Pass"}],
        "restart": {"id": "r/1", "result": "Failed", "message": null},
    });
    let body = body.to_string();
    let beat = parse(body.as_bytes(), None).unwrap();
    assert_eq!(beat.boot_id.as_deref(), Some("b"));
    assert_eq!(beat.sequence, Some(u64::MAX));
    assert_eq!(beat.version.as_deref(), Some("1.2"));
    assert_eq!(beat.hostname.as_deref(), Some("h"));
    assert_eq!(beat.pod_uid.as_deref(), Some("u"));
    assert_eq!(beat.node_name.as_deref(), Some("n"));
    assert_eq!(beat.sent_at, Some("2026-01-31T11:00:00Z".parse().unwrap()));
    assert!(beat.dry_run);
    let checks = beat.checks.unwrap();
    assert_eq!(
        checks[0],
        ReportedCheck { type_: "NATRules".into(), status: CheckOutcome::Fail, message: Some("none".into()) }
    );
    assert_eq!(checks[1], ReportedCheck { type_: "x-1".into(), status: CheckOutcome::Pass, message: None });
    let restart = RestartResult { target: None, id: "r/1".into(), result: RestartOutcome::Failed, message: None };
    assert_eq!(beat.restart, Some(restart));
}

#[test]
fn null_is_absent_for_every_optional_field() {
    let mut body = json!({"connector_id": "a", "token": "t"});
    for field in &FIELDS[2..] {
        body[field.name] = serde_json::Value::Null;
    }
    let body = body.to_string();
    let beat = parse(body.as_bytes(), None).unwrap();
    assert!(beat.boot_id.is_none() && beat.sequence.is_none() && beat.sent_at.is_none() && beat.checks.is_none());
    assert!(beat.restart.is_none() && !beat.dry_run);
}

#[test]
fn the_header_wins_over_the_body_and_makes_it_unnecessary() {
    let both = with("token", json!("from the body"));
    assert_eq!(parse(both.as_bytes(), Some("from the header")).unwrap().token, "from the header");
    assert_eq!(parse(br#"{"connector_id":"a"}"#, Some("from the header")).unwrap().token, "from the header");
    assert_eq!(parse(br#"{"connector_id":"a","token":null}"#, Some("t")).unwrap().token, "t");
}

#[test]
fn escapes_are_decoded_in_keys_and_values() {
    let beat = parse(br#"{"connector_\u0069d":"a\/b","tok\u0065n":"t\u0041"}"#, None).unwrap();
    assert_eq!((&*beat.connector_id, &*beat.token), ("a/b", "tA"));
}

#[test]
fn a_token_too_long_to_exist_is_replaced_by_one_that_is_always_wrong() {
    let parsed = |token: &str| parse(with("token", json!(token)).as_bytes(), None).unwrap().token.into_owned();
    assert_eq!(parsed(&"x".repeat(256)), "x".repeat(256));
    assert_eq!(parsed(&"é".repeat(256)), "é".repeat(256));
    assert_eq!(parsed(&"x".repeat(257)), NEVER_A_TOKEN);
    assert_eq!(parse(br#"{"connector_id":"a"}"#, Some(&"x".repeat(8000))).unwrap().token, NEVER_A_TOKEN);
}

#[test]
fn texts_are_cut_and_cleaned() {
    let body = with("hostname", json!("a\nb\u{1b}[31m"));
    assert_eq!(parse(body.as_bytes(), None).unwrap().hostname.as_deref(), Some("a b [31m"));
    let body = with("hostname", json!("edge\u{202e}1-\u{2066}a\u{feff}"));
    assert_eq!(parse(body.as_bytes(), None).unwrap().hostname.as_deref(), Some("edge 1- a "));
    let body = with("version", json!("é".repeat(200)));
    assert_eq!(parse(body.as_bytes(), None).unwrap().version.unwrap(), "é".repeat(128));
    let body = with("checks", json!([{"type": "a", "status": "Warn", "message": "x\r\n".repeat(200)}]));
    let message = parse(body.as_bytes(), None).unwrap().checks.unwrap()[0].message.clone().unwrap();
    assert_eq!(message.chars().count(), 256);
    assert!(!message.contains(char::is_control));
    let body = with("restart", json!({"id": "x".repeat(63), "result": "Failed", "message": "é".repeat(1030)}));
    assert_eq!(parse(body.as_bytes(), None).unwrap().restart.unwrap().message.unwrap(), "é".repeat(1024));
}

#[test]
fn what_is_not_one_json_object_is_not_json() {
    let deep = with("x", json!(1)).replace(":1", &format!(":{}{}", "[".repeat(500), "]".repeat(500)));
    let deep_objects = with("x", json!(1)).replace(":1", &format!(":{}1{}", r#"{"a":"#.repeat(500), "}".repeat(500)));
    let good = with("version", json!("1"));
    let trailing = [&good, "{}"].concat();
    let bom = ["\u{feff}", &good].concat();
    let bodies = ["", " \n", "[]", "\"text\"", "null", "7", "{", "{}}", "{\"a\"}", "{'a':1}", "{\"a\":\"\\ud800\"}"];
    for body in bodies.into_iter().chain([&*deep, &deep_objects, &trailing, &bom, &good[..good.len() - 1]]) {
        assert_eq!(refused(body).code, "not_json", "{body}");
    }
    for bytes in [&b"{\"connector_id\":\"a\",\"token\":\"t\",\"x\":\"\xff\"}"[..], b"\xff", b"{\"\xc3\x28\":1}"] {
        assert_eq!(parse(bytes, None).unwrap_err().code, "not_json");
    }
}

#[test]
fn a_field_that_is_there_twice_is_refused_wherever_it_is() {
    for (body, named) in [
        (r#"{"connector_id":"a","connector_id":"a","token":"t"}"#, "connector_id"),
        (r#"{"connector_id":"a","token":"t","tok\u0065n":"u"}"#, "token"),
        (r#"{"connector_id":"a","token":"t","version":null,"version":null}"#, "version"),
        (r#"{"connector_id":"a","token":"t","x":1,"y":2,"x":3}"#, "unknown field"),
        (r#"{"connector_id":"a","token":"t","checks":[{"type":"a","status":"Pass","status":"Fail"}]}"#, "status"),
        (r#"{"connector_id":"a","token":"t","checks":[{"type":"a","status":"Pass","z":1,"z":1}]}"#, "unknown field"),
        (r#"{"connector_id":"a","token":"t","restart":{"id":"a","result":"Failed","id":"a"}}"#, "id"),
        (
            r#"{"connector_id":"a","token":"t","checks":[{"type":"a","status":"Pass"},{"type":"a","status":"Warn"}]}"#,
            "checks[1].type",
        ),
    ] {
        let bad = refused(body);
        assert_eq!(bad.code, "duplicate_field", "{body}");
        assert!(bad.message.contains(named), "{bad:?}");
    }
    // What is ignored is ignored, however it looks inside.
    assert!(parse(br#"{"connector_id":"a","token":"t","later":[{"x":1,"x":2}]}"#, None).is_ok());
}

#[test]
fn a_body_full_of_unknown_fields_is_read_in_no_time() {
    let fields: Vec<String> = (0..2_000).map(|i| format!("\"{i:x}\":1")).collect();
    let body = format!(r#"{{"connector_id":"a","token":"t",{}}}"#, fields.join(","));
    assert!(parse(body.as_bytes(), None).is_ok());
    let twice = format!(r#"{{{},"0":1}}"#, fields.join(","));
    assert_eq!(refused(&twice).code, "duplicate_field");
}

#[test]
fn a_wrong_field_is_named_with_what_it_must_be() {
    let check = |value| json!([{"type": "ok", "status": "Pass"}, value]);
    let long = "x".repeat(129);
    for (field, value, named) in [
        ("connector_id", json!(null), "\"connector_id\" must be a string, not null"),
        ("connector_id", json!(7), "\"connector_id\" must be a string, not a number"),
        ("connector_id", json!(""), "\"connector_id\" must be 1 to 128 characters"),
        ("connector_id", json!("a b"), "\"connector_id\" must be 1 to 128 characters"),
        ("connector_id", json!("é"), "\"connector_id\" must be 1 to 128 characters"),
        ("connector_id", json!(long), "\"connector_id\" must be 1 to 128 characters"),
        ("token", json!(null), "\"token\" is missing"),
        ("token", json!(""), "\"token\" must be 1 to 256 characters"),
        ("token", json!([TOKEN]), "\"token\" must be a string, not a list"),
        ("sequence", json!("7"), "\"sequence\" must be a whole number ≥ 0, not a string"),
        ("sequence", json!(-1), "\"sequence\" must be a whole number ≥ 0"),
        ("sequence", json!(1.5), "\"sequence\" must be a whole number ≥ 0"),
        ("version", json!(1.5), "\"version\" must be a string"),
        ("boot_id", json!({}), "\"boot_id\" must be a string, not an object"),
        ("hostname", json!(true), "\"hostname\" must be a string, not a boolean"),
        ("pod_uid", json!([]), "\"pod_uid\" must be a string, not a list"),
        ("node_name", json!(1), "\"node_name\" must be a string"),
        ("sent_at", json!("yesterday"), "\"sent_at\" must be a time in RFC 3339"),
        ("sent_at", json!("2026-01-31T12:00:00"), "\"sent_at\" must be a time in RFC 3339"),
        ("sent_at", json!(1_700_000_000), "\"sent_at\" must be a time in RFC 3339"),
        ("dry_run", json!("true"), "\"dry_run\" must be true or false, not a string"),
        ("checks", json!({}), "\"checks\" must be a list, not an object"),
        ("checks", json!(vec![json!({}); 33]), "\"checks\" must be at most 32 checks, not 33"),
        ("checks", json!([null]), "\"checks[0]\" must be an object, not null"),
        ("checks", check(json!("x")), "\"checks[1]\" must be an object, not a string"),
        ("checks", check(json!({"status": "Pass"})), "\"checks[1].type\" is missing"),
        ("checks", check(json!({"type": "a b", "status": "Pass"})), "\"checks[1].type\" must be 1 to 64"),
        ("checks", check(json!({"type": "a"})), "\"checks[1].status\" is missing"),
        ("checks", check(json!({"type": "a", "status": "pass"})), "\"checks[1].status\" must be Pass, Warn"),
        ("checks", check(json!({"type": "a", "status": "Pass", "message": 1})), "\"checks[1].message\" must be"),
        ("restart", json!([]), "\"restart\" must be an object, not a list"),
        ("restart", json!({"result": "Failed"}), "\"restart.id\" is missing"),
        ("restart", json!({"id": "", "result": "Failed"}), "\"restart.id\" must be 1 to 63"),
        ("restart", json!({"id": "x".repeat(64), "result": "Failed"}), "\"restart.id\" must be 1 to 63"),
        ("restart", json!({"id": "a"}), "\"restart.result\" is missing"),
        ("restart", json!({"id": "a", "result": "ok"}), "\"restart.result\" must be Succeeded or Failed"),
    ] {
        let bad = refused(&with(field, value));
        assert!(bad.message.contains(named), "{field}: {bad:?}");
    }
    assert_eq!(refused("{}").message, "field \"connector_id\" is missing");
    assert!(refused(r#"{"connector_id":"a"}"#).message.contains("\"token\" is missing"));
}

#[test]
fn a_printed_beat_shows_no_token() {
    let body = with("version", json!("1"));
    let printed = format!("{:?}", parse(body.as_bytes(), None).unwrap());
    assert!(printed.contains("a/b") && !printed.contains(TOKEN), "{printed}");
}

/// A text that is shown as it is written.
fn shown_text() -> impl Strategy<Value = String> {
    "[^\\p{Cc}]{1,100}".prop_map(|text| text.replace(is_deceptive, "x"))
}

prop_compose! {
    fn any_beat()(
        id in "[A-Za-z0-9._/:-]{1,128}",
        texts in proptest::collection::vec(proptest::option::of(shown_text()), 5),
        sequence in any::<Option<u64>>(),
        sent_at in proptest::option::of(-1_000_000_000i64..4_000_000_000),
        checks in proptest::option::of(proptest::collection::btree_map("[A-Za-z0-9_-]{1,64}", 0usize..4, 0..8)),
        dry_run in any::<bool>(),
    ) -> serde_json::Value {
        let outcomes = ["Pass", "Warn", "Fail", "Unknown"];
        let checks = checks.map(|checks| -> Vec<_> {
            checks.into_iter().map(|(name, o)| json!({"type": name, "status": outcomes[o]})).collect()
        });
        let sent_at = sent_at.map(|s| Timestamp::from_second(s).unwrap().to_string());
        json!({
            "connector_id": id, "token": TOKEN, "boot_id": texts[0], "sequence": sequence, "version": texts[1],
            "hostname": texts[2], "pod_uid": texts[3], "node_name": texts[4], "sent_at": sent_at, "checks": checks,
            "dry_run": dry_run,
        })
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..512), bearer in any::<Option<String>>()) {
        let _ = parse(&body, bearer.as_deref());
    }

    #[test]
    fn no_json_makes_it_panic(body in "[\\[\\]{}:,\"\\\\a-e0-9.\\-enulltrefas ]{0,200}") {
        let _ = parse(body.as_bytes(), None);
    }

    #[test]
    fn a_well_formed_beat_comes_back_as_it_was(beat in any_beat()) {
        let body = beat.to_string();
        let read = parse(body.as_bytes(), None).unwrap();
        prop_assert_eq!(&json!(read.connector_id), &beat["connector_id"]);
        prop_assert_eq!(&json!(read.token), &beat["token"]);
        prop_assert_eq!(&json!(read.boot_id), &beat["boot_id"]);
        prop_assert_eq!(&json!(read.sequence), &beat["sequence"]);
        prop_assert_eq!(&json!(read.version), &beat["version"]);
        prop_assert_eq!(&json!(read.hostname), &beat["hostname"]);
        prop_assert_eq!(&json!(read.pod_uid), &beat["pod_uid"]);
        prop_assert_eq!(&json!(read.node_name), &beat["node_name"]);
        prop_assert_eq!(&json!(read.sent_at.map(|at| at.to_string())), &beat["sent_at"]);
        prop_assert_eq!(&json!(read.dry_run), &beat["dry_run"]);
        let checks = read.checks.map(|checks| -> Vec<_> {
            checks.into_iter().map(|c| json!({"type": c.type_, "status": c.status})).collect()
        });
        prop_assert_eq!(&json!(checks), &beat["checks"]);
    }

    #[test]
    fn a_damaged_beat_is_refused_in_words_that_do_not_hold_the_token(
        beat in any_beat(), damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 1..4),
    ) {
        let mut body = beat.to_string().into_bytes();
        for (at, byte, how) in damage {
            let at = at.index(body.len());
            match how {
                0 => body[at] = byte,
                1 => body.insert(at, byte),
                _ => drop(body.remove(at)),
            }
        }
        if let Err(bad) = parse(&body, None) {
            prop_assert!(!bad.message.is_empty());
            // Also not a part of it: eight characters in a row would be one.
            let leaks = TOKEN.as_bytes()[4..].windows(8).any(|part| bad.message.as_bytes().windows(8).any(|w| w == part));
            prop_assert!(!leaks, "{:?}", bad);
        }
    }
}
