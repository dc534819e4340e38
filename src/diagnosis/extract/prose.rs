//! The words of a failure analysis that may be shown.
//!
//! An allow-list: the words of Spring Boot's own sentences, names of properties, of classes and of environment variables
//! where such a name stands, hosts in URLs, and ports. Every other word is replaced, whatever it looks like: a password
//! in a sentence looks like any other word.

use std::collections::HashSet;
use std::sync::LazyLock;

use regex::Regex;

use super::clean::{REDACTED, url};

/// The sentences of Spring Boot's failure analyzers (org.springframework.boot.diagnostics.analyzer and those of its
/// modules), and of Java's errors about files, hosts and numbers. Only their words are used.
const SENTENCES: &str = "
    Failed to configure a DataSource: 'url' attribute is not specified and no embedded datasource or database could be
    configured. Reason: Failed to determine a suitable driver class, a suitable jdbc url or r2dbc. Consider the following:
    If you want an embedded database (H2, HSQL or Derby), please put it on the classpath. If you have database settings to
    be loaded from a particular profile you may need to activate it (no profiles are currently active, the profile is).
    Cannot determine embedded database driver class for type NONE. ConnectionFactory. Cannot load driver class.
    Web server failed to start. Port was already in use. Identify and stop the process that's listening on port or
    configure this application to listen on another port. The Tomcat connector configured to listen on port failed to start.
    The port may already be in use or the connector may be misconfigured. Verify the connector's configuration, identify and
    stop any process. Jetty Undertow Netty.
    Failed to bind properties under to. Property: Value: Origin: System Environment Property, system properties, class path
    resource, config file, command line, default, jar. Failed to convert from type to type (caused by) for value. For input
    string. No enum constant. No converter found capable of converting. No setter found for property. Update your
    application's configuration. The following values are valid. The elements were left unbound. Binding to target failed.
    Invalid value for configuration property (originating from). Validation failed for the following reason. Review the value
    of the property with the provided reason. must not be null, blank or empty; must be greater or less than or equal to;
    must match; must be a well-formed; size must be between and. is not a valid duration, data size, period, boolean,
    integer, number, name, path, URI or URL. is not supported.
    The following configuration properties are mutually exclusive: However, more than one of those properties has been
    configured at the same time. Update your configuration so that only one of the mutually exclusive properties is
    configured.
    Parameter of constructor in required a bean of type that could not be found. Field in required a bean named. Method
    required a single bean, but were found: defined by method in. The injection point has the following annotations.
    Consider defining a bean of type in your configuration. Consider marking one of the beans as Primary, updating the
    consumer to accept multiple beans, or using Qualifier to identify the bean that should be consumed. Consider revisiting
    the entries above. The following candidates were found but could not be injected. Bean method not loaded because did
    not find. User-defined bean. A component required. auto-configuration class. ConditionalOnProperty, ConditionalOnClass,
    ConditionalOnMissingBean, ConditionalOnBean.
    The dependencies of some of the beans in the application context form a cycle. Relying upon circular references is
    discouraged and they are prohibited by default. Update your application to remove the dependency cycle between beans. As
    a last resort, it may be possible to break the cycle automatically by setting to true. Despite circular references being
    allowed, the dependency cycle between beans could not be broken.
    The bean, defined in, could not be registered. A bean with that name has already been defined in and overriding is
    disabled. Consider renaming one of the beans or enabling overriding by setting. could not be injected as a because it is
    a JDK dynamic proxy that implements. Consider injecting the bean as one of its interfaces or forcing the use of
    CGLib-based proxies by setting proxyTargetClass on EnableAsync and EnableCaching.
    An attempt was made to call a method that does not exist. The attempt was made from the following location. The
    following method did not exist. The calling method's class, was loaded from. The called method's class hierarchy is
    available from the following locations. Correct the classpath of your application so that it contains a single,
    compatible version of. compatible versions of the classes.
    Config data resource via location does not exist. Check that the value at is correct, or prefix it with optional. Config
    data location. Inactive config data. imported from location is invalid in a profile specific resource. Move this
    property to a non-profile specific resource. File extension of is not known to any PropertySourceLoader. Directory.
    Liquibase failed to start because no changelog could be found at. Make sure a changelog is present at the configured
    path. Flyway failed to initialize: none of the following migration scripts locations could be found. Review the
    locations above or check your Flyway configuration. Schema. Vendor.
    The Bean Validation API is on the classpath but no implementation could be found. Add an implementation, such as
    Hibernate Validator, to the classpath. Unable to. Your project setup is incompatible with our requirements due to
    following reasons. Spring Boot is not compatible with this Spring Cloud release train. Change Spring Boot version to one
    of the following versions. You can find the latest versions here. If you want to disable this check, set the property.
    Could not resolve placeholder in value. Unable to start the embedded container. Failed to instantiate. unsatisfied
    dependency expressed through. Error creating bean with name. Invocation of init method failed. Factory method threw
    exception with message. Cannot be cast to. Ambiguous. Template. Cannot be found. Entity. Repository. Not a managed type.
    Connection refused; connection to was refused; connect timed out, read timed out, connection reset, unknown host, no
    route to host, network is unreachable, could not connect to server. No such file or directory; permission denied; access
    denied; is a directory; read-only file system; no space left on device; too many open files; address already in use.
    not found, missing, required, expected, unexpected, wrong, incorrect, unknown, unsupported, unavailable, deprecated.
    Go on. Stop the other one. Use it instead. Set, add, remove, replace, rename, provide, specify, enable, disable, install,
    upgrade, restart, see, read, write, look, log, logs, documentation, example, details, more information.
    key password user username secret token credentials certificate keystore truststore alias SSL TLS bundle protocol
    environment variable variables setting settings option options argument arguments string integer long double float short
    byte char object list map array set enum duration date time timeout interval pool maximum minimum hikari jpa jdbc redis
    kafka rabbit mongo server client service endpoint endpoints management actuator health metrics prometheus port ports
    address hostname localhost true false null none yes no on off any all each every both either neither nor if then else
    when while until before after during since than too very also only just still yet again never always here there this
    that these those it its they them their we our you your he she who which what where why how can could shall should will
    would may might must do does did done has have had having be been being am is are was were get got make made take use
    used using uses need needs let try tried first second last next previous new old same other another such own most many
    much few less least";

/// Beginnings of the names of properties and of classes.
const ROOTS: &[&str] = &[
    "java",
    "javax",
    "jakarta",
    "kotlin",
    "scala",
    "groovy",
    "sun",
    "jdk",
    "com",
    "org",
    "net",
    "io",
    "dev",
    "de",
    "fr",
    "uk",
    "eu",
    "ch",
    "at",
    "nl",
    "us",
    "ru",
    "cn",
    "jp",
    "spring",
    "server",
    "management",
    "logging",
    "application",
    "info",
    "debug",
    "trace",
    "eureka",
    "feign",
    "resilience4j",
    "springdoc",
    "reactor",
    "hibernate",
    "bootstrap",
];

/// Words after which a name stands.
const BEFORE_A_NAME: &[&str] = &["under", "property", "placeholder", "variable", "bean", "named", "profile"];

/// Words after which the next one is a secret.
const BEFORE_A_SECRET: &[&str] = &["password", "passwd", "pwd", "secret", "token", "key", "passphrase", "credentials"];

/// Schemes of URLs that may be shown.
static SCHEME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"^(?:https?|jdbc:(?:postgresql|mysql|mariadb|oracle:thin|sqlserver|h2:[a-z]+|db2)|r2dbc:[a-z]+|postgres(?:ql)?|mysql|mongodb(?:\+srv)?|rediss?|amqps?|kafka|ldaps?|tcp|nats|ftp|file)$",
    )
    .expect("a constant pattern")
});

/// The text with each word replaced that is not known to be harmless.
pub(super) fn shown(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut before = String::new();
    for token in text.split_whitespace() {
        let word = shown_token(token, &before);
        if word != REDACTED || words.last().is_none_or(|last| last != REDACTED) {
            words.push(word);
        }
        before = token.to_lowercase();
    }
    words.join(" ").chars().filter(|c| !c.is_control()).collect()
}

/// One word between blanks, with the punctuation around it. `before` is the previous word, in lower case.
fn shown_token(token: &str, before: &str) -> String {
    const AROUND: &[char] = &[
        '\'', '"', '`', '(', ')', '[', ']', '{', '}', '<', '>', ',', ';', ':', '.', '!', '?', '-', '*', '@', '…', '=',
        '|',
    ];
    let core = token.trim_matches(AROUND);
    if core.is_empty() {
        return if token.chars().count() <= 4 { token.to_owned() } else { REDACTED.to_owned() };
    }
    // The punctuation that is not part of the word.
    let begin = token.find(core).unwrap_or(0);
    let (lead, trail) = (&token[..begin], &token[begin + core.len()..]);
    let (lead, trail) = (clipped(lead), clipped(trail));
    if core.contains("://") {
        let shown = url(core);
        let is_known = shown.split_once("://").is_some_and(|(scheme, _)| SCHEME.is_match(scheme));
        return if is_known { format!("{lead}{shown}{trail}") } else { REDACTED.to_owned() };
    }
    let bare_before = before.trim_matches(AROUND);
    let is_secret = BEFORE_A_SECRET.contains(&bare_before) && before.ends_with([':', '=']);
    if !is_secret && may_be_shown(core, bare_before) {
        return format!("{lead}{core}{trail}");
    }
    // The end of a sentence remains visible.
    let end = trail.trim_matches(|c: char| !".,;:".contains(c));
    if end.is_empty() { REDACTED.to_owned() } else { format!("{REDACTED}{end}") }
}

fn clipped(punctuation: &str) -> String {
    punctuation.chars().take(3).collect()
}

fn may_be_shown(core: &str, before: &str) -> bool {
    let digits = core.bytes().filter(u8::is_ascii_digit).count();
    if digits == core.len() {
        return digits <= 2 || (digits <= 5 && before == "port");
    }
    is_prose(core) || is_class(core) || is_name(core, before) || core.split_once('=').is_some_and(is_setting)
}

/// Words of the sentences, also joined by hyphens or slashes.
fn is_prose(core: &str) -> bool {
    static VOCABULARY: LazyLock<HashSet<String>> = LazyLock::new(|| {
        let words = SENTENCES.split(|c: char| !c.is_ascii_alphanumeric() && c != '\'');
        words.map(|word| bare(word.trim_matches('\''))).filter(|word| !word.is_empty()).collect()
    });
    core.split(['-', '/']).all(|word| VOCABULARY.contains(&bare(word)))
}

/// In lower case, without a possessive ending.
fn bare(word: &str) -> String {
    let word = word.to_lowercase();
    word.strip_suffix("'s").map(str::to_owned).unwrap_or(word)
}

/// The simple name of an exception.
fn is_class(core: &str) -> bool {
    static CLASS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^(?:[A-Z][a-z]{1,20}){1,6}(?:Exception|Error)$").expect("a constant pattern"));
    CLASS.is_match(core)
}

/// The name of a property or of a class: `spring.datasource.url`, `java.lang.Integer`; of an environment variable or of a
/// bean where such a name stands.
fn is_name(core: &str, before: &str) -> bool {
    static PART: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^[A-Za-z_$][A-Za-z0-9_$-]{0,63}(?:\[[0-9]{1,3}\])?$").expect("a constant pattern")
    });
    // Long runs of digits are part of no name.
    let part = |part: &str| PART.is_match(part) && part.bytes().filter(u8::is_ascii_digit).count() <= 3;
    let parts: Vec<&str> = core.split('.').collect();
    let is_dotted = parts.len() > 1 && ROOTS.contains(&parts[0].to_lowercase().as_str());
    let is_named = BEFORE_A_NAME.contains(&before);
    (is_dotted || is_named) && parts.iter().all(|one| part(one))
}

/// `spring.main.allow-circular-references=true`.
fn is_setting((name, value): (&str, &str)) -> bool {
    is_name(name, "") && matches!(value, "true" | "false")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_of_spring_are_shown_as_they_are() {
        for text in [
            "Failed to configure a DataSource: 'url' attribute is not specified and no embedded datasource could be configured.",
            "Web server failed to start. Port 8090 was already in use.",
            "Identify and stop the process that's listening on port 8090 or configure this application to listen on another port.",
            "Failed to bind properties under 'spring.datasource.hikari.connection-timeout' to long:",
            "Origin: System Environment Property \"SPRING_DATASOURCE_HIKARI_CONNECTIONTIMEOUT\"",
            "Reason: failed to convert java.lang.String to long (caused by java.lang.NumberFormatException: For input string: …)",
            "Parameter 0 of constructor in com.example.shop.OrderServiceConfigurationFactoryBean required a bean of type 'com.example.X' that could not be found.",
            "Consider renaming one of the beans or enabling overriding by setting spring.main.allow-bean-definition-overriding=true",
            "The following configuration properties are mutually exclusive: management.endpoint.prometheus.access management.endpoint.prometheus.enabled",
            "Could not resolve placeholder 'DB_URL' in value …",
        ] {
            assert_eq!(shown(text), text);
        }
    }

    #[test]
    fn a_secret_in_a_sentence_is_not_shown() {
        for text in [
            "Login with hunter2 failed",
            "Invalid credentials: app / hunter2",
            "The user app is not known with the secret word hunter2!",
            "the pin 471108 was refused",
            "the passphrase correct horse battery staple is wrong",
            "cannot decrypt with Tr0ub4dor&3",
            "user=app pwd=hunter2",
            "the license ABCD-EFGH-IJKL-MNOP has expired",
            "key sk_live_hunter2 is not valid",
            "x.hunter2.y is not allowed",
            "No enum constant x.Level.hunter2",
            "authorization header was Basic aHVudGVyMg==",
            "hunter2://x and app:31337 and app@hunter2",
            "unknown cookie JSESSIONID=hunter2",
            "Property 'x' has the value hunter2",
            "the Kennwort lautet hunter2",
        ] {
            let told = shown(text).to_lowercase();
            for secret in ["hunter2", "471108", "horse", "tr0ub4dor", "abcd", "ahvud", "31337"] {
                assert!(!told.contains(secret), "{text}: {told}");
            }
        }
        assert_eq!(shown("password: port"), "password: …");
        assert_eq!(shown("at https://user:hunter2@h.example.com:1/x?y=z."), "at https://h.example.com:1.");
    }
}
