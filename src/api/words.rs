//! The closed sets of words: enums inside the program, strings when they are serialized.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Defines an enum whose variants are serialized, displayed and parsed as their names. The variants stand in one or more
/// groups in braces; brackets around all groups are allowed.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident [$($group:tt)+]) => { words! { $(#[$doc])* $name $($group)+ } };
    ($(#[$doc:meta])* $name:ident $({ $($(#[$vdoc:meta])* $variant:ident),* $(,)? })+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum $name { $($($(#[$vdoc])* $variant,)*)+ }

        impl $name {
            /// All variants, in the order of their definition.
            pub const ALL: &'static [Self] = &[$($(Self::$variant,)*)+];

            /// The name of the variant.
            pub const fn as_str(self) -> &'static str {
                match self { $($(Self::$variant => stringify!($variant),)*)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(word: &str) -> Result<Self, String> {
                Self::ALL.iter().copied().find(|w| w.as_str() == word)
                    .ok_or_else(|| format!("{word:?} is no {}", stringify!($name)))
            }
        }
    };
}
pub(crate) use words;

words! {
    /// The state of a connector: derived from its conditions, for display.
    ConnectorState {
        /// Never heard.
        Pending,
        /// Heard in time.
        Online,
        /// Silent past `lateAfterSeconds`.
        Late,
        /// Heard, but a critical check fails.
        Degraded,
        /// Silent past `offlineAfterSeconds`.
        Offline,
        /// We could not have known.
        Unknown,
    }
}

words! {
    /// The types of conditions that vigie writes, in the order in which they are shown.
    ConditionType {
        /// All that matters is well.
        Ready,
        /// The spec can be acted upon.
        Accepted,
        /// A usable token Secret exists.
        Provisioned,
        /// An authenticated beat was heard in time.
        Online,
        /// The checks that the agent reports pass.
        Healthy,
        /// Our own probe of a backend passes.
        Available,
        /// Its metrics page can be scraped.
        MetricsExposed,
        /// Prometheus scrapes it.
        Scraped,
        /// The pods behind it are well.
        WorkloadHealthy,
        /// A remedy is under way.
        Remediating,
        /// Nothing more will happen until the spec changes (kstatus).
        Stalled,
    }
}

words! {
    /// How sure a diagnosis is. `Possible` is never acted upon.
    Confidence {
        /// A guess.
        Possible,
        /// Most of the evidence is there.
        Likely,
        /// The evidence is complete.
        Certain,
    }
}

words! {
    /// Whether a restart can cure the cause.
    RestartHelps {
        /// It cannot.
        No,
        /// It may; not again for the same cause when it did not.
        Once,
        /// It can, up to `maxAttempts`.
        Yes,
    }
}

words! {
    /// The outcome of one check.
    CheckOutcome {
        /// As it should be.
        Pass,
        /// Not as it should be, and it does not matter much.
        Warn,
        /// Not as it should be.
        Fail,
        /// The agent could not tell.
        Unknown,
    }
}

words! {
    /// The state of a backend: derived from its conditions, for display.
    BackendState {
        /// Never probed.
        Pending,
        /// Our probe passes, and so does all else that was asked for.
        Up,
        /// Our probe passes, but slowly, or something else that was asked for is not well.
        Degraded,
        /// Our probe fails.
        Down,
        /// We could not have known.
        Unknown,
    }
}

words! {
    /// How far a probe got, in the order of the way it goes.
    Phase {
        /// Finding the addresses of a name.
        Resolve,
        /// Asking whether an address may be dialled at all.
        Policy,
        /// Connecting, to any of the addresses.
        Connect,
        /// The TLS handshake.
        TLS,
        /// From the request to the first byte of the answer.
        FirstByte,
        /// The rest of the answer, and what it says.
        Body,
    }
}

/// The list of error classes. Calls the macro `$next` with the tokens `$before`, followed by the list; `reasons!`
/// (reason.rs) takes it over.
macro_rules! error_classes {
    ($next:ident! $($before:tt)*) => {
        $next! { $($before)* [
            {
                /// The host answered that nothing listens there.
                Refused,
                /// No answer to the attempts to connect.
                ConnectTimeout,
                /// The connection ended before any byte.
                Reset,
                /// No route to the address.
                Unreachable,
                /// The name does not exist.
                DNSNotFound,
                /// The name could not be resolved.
                DNSFailure,
                /// The name was not resolved in time.
                DNSTimeout,
                /// The TLS handshake failed, for a reason of its own.
                TLSHandshake,
                /// The certificate has expired, or is not valid yet.
                TLSExpired,
                /// The certificate is not signed by an authority that is trusted.
                TLSUnknownAuthority,
                /// The certificate is for another name.
                TLSNameMismatch,
                /// The far side does not speak TLS.
                NotTLS,
                /// The far side does not speak HTTP, or speaks it on a TLS port.
                NotHTTP,
                /// The status of the answer is not an expected one.
                HTTPStatus,
                /// Connected, and no byte in time.
                FirstByteTimeout,
                /// The answer began, and did not end in time.
                BodyTimeout,
                /// The answer is larger than the limit.
                BodyTooLarge,
                /// Too many redirects.
                RedirectLimit,
                /// The content type is not a supported one.
                ContentType,
                /// The metrics page cannot be parsed, or exceeds a limit of samples.
                Exposition,
                /// The metrics page lacks a required metric.
                MissingMetric,
                /// The body does not match what was asked for, or matches what must not be.
                Assertion,
                /// The gRPC health service says anything but SERVING.
                GRPCStatus,
                /// The address may not be dialled.
                Denied,
                /// Our own fault.
                Internal,
            }
        ] }
    };
}
pub(crate) use error_classes;

error_classes! { words!
    /// How a probe failed. A closed set, the same in status, metrics and logs.
    ErrorClass
}
