use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex as StdMutex};

use futures::future::join_all;

use super::*;

#[tokio::test]
async fn this_machine_knows_itself_and_does_not_know_what_is_never_there() {
    let system = SystemResolver::default();
    let addresses = system.resolve("localhost").await.unwrap();
    assert!(!addresses.is_empty() && addresses.iter().all(IpAddr::is_loopback), "{addresses:?}");
    // No resolver is asked for a name with a byte that ends it.
    assert!(matches!(system.resolve("a\0b").await, Err(Unresolved::Failed(_))));
}

#[test]
fn the_codes_of_getaddrinfo_mean_what_glibc_says() {
    // EAI_NONAME, EAI_NODATA, EAI_ADDRFAMILY: netdb.h of the GNU C library.
    for code in [-2, -5, -9] {
        assert_eq!(unresolved(&LookupError::new(code)), Unresolved::NotFound, "{code}");
    }
    // EAI_AGAIN, EAI_FAIL, EAI_SYSTEM, EAI_MEMORY.
    for code in [-3, -4, -11, -10] {
        assert!(matches!(unresolved(&LookupError::new(code)), Unresolved::Failed(_)), "{code}");
    }
}

/// How many lookups of the test below run, how many ran at once, how many there were.
static RUNNING: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);
static ASKED: AtomicUsize = AtomicUsize::new(0);
static HELD: (StdMutex<bool>, Condvar) = (StdMutex::new(true), Condvar::new());

fn held(host: &str) -> Result<Vec<IpAddr>, Unresolved> {
    ASKED.fetch_add(1, Ordering::SeqCst);
    let running = RUNNING.fetch_add(1, Ordering::SeqCst) + 1;
    MOST.fetch_max(running, Ordering::SeqCst);
    let guard = HELD.0.lock().unwrap();
    drop(HELD.1.wait_while(guard, |held| *held).unwrap());
    RUNNING.fetch_sub(1, Ordering::SeqCst);
    if host.starts_with('s') { Err(Unresolved::Failed("again".to_owned())) } else { Ok(Vec::new()) }
}

#[tokio::test]
async fn lookups_are_shared_and_bounded_while_the_resolver_is_dead() {
    let system = SystemResolver::with_lookup(held, 2, 1, SLOW_LOOKUP);
    // Every one of these leaves before an answer comes.
    for _ in 0..10 {
        let names = (0..5).map(|at| timeout(Duration::from_millis(1), system.resolve(&format!("n{at}"))));
        assert!(join_all(names).await.iter().all(Result::is_err));
    }
    assert_eq!(system.0.under_way.lock().len(), 5, "one for each name, however often it was asked for");
    assert!(ASKED.load(Ordering::SeqCst) <= 2, "no more threads than there is room for");
    *HELD.0.lock().unwrap() = false;
    HELD.1.notify_all();
    let names = (0..5).map(|at| system.resolve(&format!("n{at}")).map(move |result| (at, result)).boxed());
    for (_, result) in join_all(names).await {
        assert_eq!(result, Ok(Vec::new()));
    }
    assert!(MOST.load(Ordering::SeqCst) <= 2);
    assert_eq!(system.0.under_way.lock().len(), 0, "nothing is kept");
}

#[tokio::test]
async fn a_slow_name_is_remembered_as_such_until_it_is_quick_again() {
    let system = SystemResolver::default();
    let lookups = &system.0;
    lookups.record_duration("slow".to_owned(), true);
    assert!(lookups.slow.lock().contains("slow"));
    lookups.record_duration("slow".to_owned(), false);
    assert!(lookups.slow.lock().is_empty());
    for at in 0..=MAX_SLOW_NAMES {
        lookups.record_duration(at.to_string(), true);
    }
    assert!(lookups.slow.lock().len() <= MAX_SLOW_NAMES);
}

fn slowly(host: &str) -> Result<Vec<IpAddr>, Unresolved> {
    if host == "dead" {
        std::thread::sleep(Duration::from_millis(310));
        return Err(Unresolved::Failed("Temporary failure in name resolution".to_owned()));
    }
    Err(Unresolved::Failed("Temporary failure in name resolution".to_owned()))
}

#[tokio::test]
async fn one_code_for_two_failures_is_told_apart_by_how_long_it_took() {
    let system = SystemResolver::with_lookup(slowly, 2, 1, Duration::from_millis(300));
    let (dead, broken) = tokio::join!(system.resolve("dead"), system.resolve("broken"));
    assert_eq!(dead, Err(Unresolved::TimedOut));
    assert!(matches!(broken, Err(Unresolved::Failed(_))));
    assert!(system.0.slow.lock().contains("dead"));
}
