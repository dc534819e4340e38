//! From a bad state to its cause, and from the cause to what to do. Pure: the same facts give the same words.

pub mod connector;
pub mod evidence;
