//! A strict reader of one JSON object: no duplicate fields, no deep nesting, valid UTF-8, and no copy of a text that can be
//! borrowed. serde's derive neither detects duplicates of unknown fields nor keeps the sent text out of its errors.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// The error of a body that is not a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadBeat {
    /// One of `not_json`, `missing_field`, `invalid_field` or `duplicate_field`.
    pub code: &'static str,
    /// A sentence that names the field, and never its value.
    pub message: String,
}

impl BadBeat {
    pub(super) fn not_json(message: impl Into<String>) -> Self {
        Self { code: "not_json", message: message.into() }
    }

    pub(super) fn duplicate(message: impl Into<String>) -> Self {
        Self { code: "duplicate_field", message: message.into() }
    }

    pub(super) fn missing(field: &str) -> Self {
        Self { code: "missing_field", message: format!("field {field:?} is missing") }
    }

    pub(super) fn invalid(field: &str, rule: &str) -> Self {
        Self { code: "invalid_field", message: format!("field {field:?} must be {rule}") }
    }

    pub(super) fn mistyped(field: &str, rule: &str, found: &Value<'_>) -> Self {
        Self::invalid(field, &format!("{rule}, not {}", found.kind()))
    }
}

/// A field that the reader knows.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
}

/// The part of a field's value that is kept.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// A scalar. For a list or an object only the kind is kept.
    Plain,
    /// The fields of an object.
    Object(&'static [Field]),
    /// The fields of each object of a list, for the first objects up to this number; the rest is only counted.
    List(&'static [Field], usize),
    /// The scalars of a list, the first ones up to this number; the rest is only counted.
    Scalars(usize),
    /// The names and scalars of an object whose names are free: the first ones, and one more than this number.
    Map(usize),
}

/// The value of a field, as far as its [`Shape`] asks for it.
#[derive(Debug)]
pub(super) enum Value<'a> {
    Missing,
    Null,
    Bool(bool),
    Whole(u64),
    /// Any other number: negative, with a fraction or an exponent, or above `u64::MAX`.
    Number,
    Text(Cow<'a, str>),
    /// The kept items, and the number of all items.
    List(Vec<Value<'a>>, usize),
    /// One value for each field of the shape; none for `Shape::Plain`.
    Object(Vec<Value<'a>>),
    /// The kept members, in the order of the body.
    Map(Vec<(Cow<'a, str>, Value<'a>)>),
}

impl Value<'_> {
    /// The kind of the value, for error messages.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Missing => "absent",
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Whole(_) | Self::Number => "a number",
            Self::Text(_) => "a string",
            Self::List(..) => "a list",
            Self::Object(_) | Self::Map(_) => "an object",
        }
    }
}

/// The values of the fields that most bodies do not have: one for each of them, or none when the body has none.
pub(super) type RareValues<'a> = Vec<Value<'a>>;

/// The fields that most bodies do not have, and where their values go.
pub(super) struct Rare<'r, 'a> {
    pub(super) fields: &'static [Field],
    pub(super) values: &'r mut RareValues<'a>,
}

impl<'a> Rare<'_, 'a> {
    /// The field of this name, and the place of its value.
    fn find(&mut self, name: &str) -> Option<(&'static Field, &mut Value<'a>)> {
        let at = self.fields.iter().position(|field| field.name == name)?;
        self.values.resize_with(self.fields.len(), || Value::Missing);
        Some((&self.fields[at], &mut self.values[at]))
    }
}

/// Reads `body`, one JSON object, into one value for each of `fields`. The `rare` fields cost nothing in a body without
/// them.
///
/// # Errors
///
/// When it is not one JSON object, or a known object in it has a field twice.
pub(super) fn read<'a, const N: usize>(
    body: &'a [u8],
    fields: &'static [Field; N],
    rare: Rare<'_, 'a>,
) -> Result<[Value<'a>; N], BadBeat> {
    let text = std::str::from_utf8(body)
        .map_err(|e| BadBeat::not_json(format!("the body is not UTF-8 from byte {} on", e.valid_up_to())))?;
    // Checked first, because serde's own error for a wrong kind would contain the value.
    match text.trim_ascii_start().bytes().next() {
        Some(b'{') => {}
        None => return Err(BadBeat::not_json("the body is empty: a JSON object was expected")),
        Some(0xEF) if text.starts_with('\u{feff}') => {
            return Err(BadBeat::not_json("the body starts with a byte order mark, which JSON does not allow"));
        }
        Some(_) => return Err(BadBeat::not_json("the body is not a JSON object")),
    }
    let mut from = serde_json::Deserializer::from_str(text);
    from.deserialize_map(BodyVisitor(fields, rare)).and_then(|values| from.end().map(|()| values)).map_err(|error| {
        if error.is_data() {
            BadBeat::duplicate(error.to_string())
        } else {
            BadBeat::not_json(format!("the body is not JSON: {error}"))
        }
    })
}

/// Visits the object of the body into an array: a plain heartbeat needs no allocation.
struct BodyVisitor<'r, 'de, const N: usize>(&'static [Field; N], Rare<'r, 'de>);

impl<'de, const N: usize> Visitor<'de> for BodyVisitor<'_, 'de, N> {
    type Value = [Value<'de>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let mut values = [const { Value::Missing }; N];
        read_fields(map, self.0, &mut values, self.1)?;
        Ok(values)
    }
}

/// Reads the known fields of an object into `values`, skips the unknown ones, and refuses duplicates.
fn read_fields<'de, A: MapAccess<'de>>(
    mut map: A,
    fields: &'static [Field],
    values: &mut [Value<'de>],
    mut rare: Rare<'_, 'de>,
) -> Result<(), A::Error> {
    let mut unknown: Vec<Cow<'de, str>> = Vec::new();
    while let Some(FieldName(key)) = map.next_key()? {
        let known = fields.iter().zip(&mut *values).find(|(field, _)| field.name == key);
        match known {
            Some((field, value @ Value::Missing)) => *value = map.next_value_seed(field.shape)?,
            Some((field, _)) => return Err(twice(field)),
            None => unknown.extend(read_rare(&mut map, key, &mut rare)?),
        }
    }
    // Sorted, because a body has room for thousands of keys. The error names no key, because it may contain a token.
    unknown.sort_unstable();
    if unknown.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(de::Error::custom("an unknown field is there twice"));
    }
    Ok(())
}

/// Reads the value of a rare field; gives back the name of a field that is not known at all, after its value.
#[cold]
#[inline(never)]
fn read_rare<'de, A: MapAccess<'de>>(
    map: &mut A,
    key: Cow<'de, str>,
    rare: &mut Rare<'_, 'de>,
) -> Result<Option<Cow<'de, str>>, A::Error> {
    match rare.find(&key) {
        Some((field, value @ Value::Missing)) => *value = map.next_value_seed(field.shape)?,
        Some((field, _)) => return Err(twice(field)),
        None => {
            map.next_value_seed(Shape::Plain)?;
            return Ok(Some(key));
        }
    }
    Ok(None)
}

#[cold]
fn twice<E: de::Error>(field: &Field) -> E {
    E::custom(format_args!("field {:?} is there twice", field.name))
}

/// Reads the first members of an object with free names: `most` and one more, so that too many are noticed.
fn read_map<'de, A: MapAccess<'de>>(mut map: A, most: usize) -> Result<Value<'de>, A::Error> {
    let mut members: Vec<(Cow<'de, str>, Value<'de>)> = Vec::new();
    while let Some(FieldName(key)) = map.next_key()? {
        let value = map.next_value_seed(Shape::Plain)?;
        if members.iter().any(|(known, _)| *known == key) {
            return Err(de::Error::custom("a name of a map is there twice"));
        }
        if members.len() <= most {
            members.push((key, value));
        }
    }
    Ok(Value::Map(members))
}

/// The name of a field. serde's own `Cow` would copy it.
struct FieldName<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for FieldName<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Shape::Plain.deserialize(from)? {
            Value::Text(key) => Ok(Self(key)),
            _ => Err(de::Error::custom("a field's name is not a string")),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Shape {
    type Value = Value<'de>;

    // Not `deserialize_ignored_any`, even if nothing is kept: it has no limit of depth.
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value<'de>, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Shape {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Value::Whole(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(u64::try_from(value).map_or(Value::Number, Value::Whole))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Value::Number)
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Borrowed(value)))
    }

    // Called only for texts with escapes.
    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let (item, keep) = match self {
            Self::List(fields, keep) => (Self::Object(fields), keep),
            Self::Scalars(keep) => (Self::Plain, keep),
            Self::Plain | Self::Object(_) | Self::Map(_) => (Self::Plain, 0),
        };
        let (mut items, mut count) = (Vec::new(), 0);
        while let Some(value) = seq.next_element_seed(item)? {
            count += 1;
            if count <= keep {
                items.push(value);
            }
        }
        Ok(Value::List(items, count))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let fields = match self {
            Self::Object(fields) => fields,
            Self::Map(most) => return read_map(map, most),
            Self::Plain | Self::List(..) | Self::Scalars(_) => {
                while map.next_key::<FieldName<'_>>()?.is_some() {
                    map.next_value_seed(Self::Plain)?;
                }
                return Ok(Value::Object(Vec::new()));
            }
        };
        let mut values: Vec<_> = fields.iter().map(|_| Value::Missing).collect();
        read_fields(map, fields, &mut values, Rare { fields: &[], values: &mut Vec::new() })?;
        Ok(Value::Object(values))
    }
}
