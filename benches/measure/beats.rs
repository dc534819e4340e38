//! Beats with token check, compared with the bare stack and with a common alternative.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;

use crate::compare::{Contender, ratio};
use crate::figures::{judge, say};
use crate::fleet;
use crate::load::Wire;
use crate::process::Part;

/// Number of registered connectors, which beat in turn. Not fewer: a connector above ten times its rate is told to slow
/// down, which is another code path.
const CONNECTORS: usize = 100_000;
/// Groups in the pushgateway: one for each connector.
const GROUPS: usize = 1_000;
const CONNECTIONS: usize = 64;
/// Many short turns rather than few long ones: a disturbance of the machine then affects both of a pair.
const ROUNDS: usize = 20;
const TURN: Duration = Duration::from_millis(1500);
/// The pushgateway has its turn in every fifth round: its answers are so slow that fewer rounds suffice.
const PUSHED_EVERY: usize = 5;

/// In turns: bare, vigie, pushgateway, bare, …
pub(crate) async fn measure() -> anyhow::Result<()> {
    println!(
        "beats: {CONNECTIONS} connections, {ROUNDS} rounds of {} s for each, median (lowest to highest)",
        TURN.as_secs()
    );
    let beats: Vec<_> =
        (0..CONNECTORS).map(|i| fleet::request(&fleet::beat(&fleet::id(i), &fleet::token(i)))).collect();
    let mut bare = Contender::start("bare axum", &["serve", "bare"], CONNECTIONS, beats.clone())?;
    let count = CONNECTORS.to_string();
    let mut vigie = Contender::start("vigie", &["serve", "vigie", &count], CONNECTIONS, beats)?;
    let mut push = pushgateway().await?;
    for round in 0..ROUNDS {
        bare.turn(TURN).await?;
        vigie.turn(TURN).await?;
        if let Some(push) = push.as_mut().filter(|_| round % PUSHED_EVERY == 0) {
            push.turn(2 * TURN).await?;
        }
    }
    bare.report();
    vigie.report();
    if let Some(push) = &push {
        push.report();
    }
    println!("ratios of paired turns");
    let rate = ratio(&vigie.per_second, &bare.per_second);
    judge("requests per second, vigie / bare axum", format!("{rate:.2}"), "≥ 0.80", rate.median() >= 0.8);
    say("CPU per request, vigie / bare axum", format!("{:.2}", ratio(&vigie.cpu, &bare.cpu)));
    match &push {
        Some(push) => {
            let paired = |of: &[f64]| of.iter().copied().step_by(PUSHED_EVERY).collect::<Vec<_>>();
            let rate = ratio(&paired(&vigie.per_second), &push.per_second);
            judge("requests per second, vigie / pushgateway", format!("{rate:.0}"), "≥ 100", rate.median() >= 100.0);
            say("CPU per request, pushgateway / vigie", format!("{:.0}", ratio(&push.cpu, &paired(&vigie.cpu))));
        }
        None => say("requests per second, vigie / pushgateway", "not measured: no pushgateway (see scripts/bench)"),
    }
    Ok(())
}

/// Debian's pushgateway with its groups in place, if scripts/bench could get it.
async fn pushgateway() -> anyhow::Result<Option<Contender>> {
    let Some(root) = std::env::var_os("PUSHGATEWAY").filter(|path| !path.is_empty()) else { return Ok(None) };
    let program = Path::new(&root).join("usr/bin/prometheus-pushgateway");
    // Freed for the pushgateway; no other process here opens a port in between.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let listen = format!("--web.listen-address={address}");
    let part = Part::run(&program, &[&listen, "--log.level=error"], Stdio::null())?;
    let requests: Vec<_> = (0..GROUPS).map(push).collect();
    let mut wire = Wire::first(address).await.context("waiting for the pushgateway")?;
    for request in &requests {
        let status = wire.ask(request).await?;
        anyhow::ensure!(status == 200, "the pushgateway answered {status}: {}", wire.shown());
    }
    Ok(Some(Contender::new("Debian's pushgateway", part, address, CONNECTIONS, requests)))
}

/// Replaces one metric of one group.
fn push(group: usize) -> Vec<u8> {
    let body = "# TYPE last_contact gauge\nlast_contact 1\n";
    format!(
        "PUT /metrics/job/gateways/instance/edge-{group:06} HTTP/1.1\r\nHost: push.example\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
