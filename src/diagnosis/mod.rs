//! From a bad state to its cause, and from the cause to what to do. Pure: the same facts give the same words; `gather`
//! alone, which collects the facts, asks anybody anything.

pub mod connector;
pub mod evidence;
pub mod extract;
pub mod gather;
pub mod rules;
