//! The requests to the agent's helper, which runs as root.

use vigie::agent::helper::protocol::{Ask, MAX_REQUEST, parse};

/// One request to the helper.
pub fn helper_request(data: &[u8]) {
    let ask = match parse(data) {
        Ok(ask) => ask,
        Err(error) => {
            assert!(!error.is_empty());
            return;
        }
    };
    assert!(data.len() <= MAX_REQUEST);
    if let Ask::Restart { id, .. } = &ask {
        assert!((1..=63).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()), "{id:?}");
    }
    if let Ask::Restart { target, .. } | Ask::Tail { target, .. } = &ask {
        // It becomes an argument of a command or a part of a path.
        let text = target.to_string();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b":_.\\@-".contains(&byte);
        assert!(text.bytes().all(is_plain) && !text.starts_with('-') && text.len() <= 255, "{text:?}");
    }
    let line = serde_json::to_vec(&ask).expect("a request can be written");
    assert!(!line.contains(&b'\n'), "a request is one line");
    if line.len() <= MAX_REQUEST {
        assert_eq!(parse(&line).as_ref(), Ok(&ask), "it is lost when it is written");
    }
}
