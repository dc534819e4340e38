//! Many backends, each on a port of its own: one process that answers everything, or hangs.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// All of them accept connections and read requests.
#[derive(Clone, Debug)]
pub(crate) struct Pages {
    addresses: BTreeMap<String, SocketAddr>,
    hanging: Arc<Mutex<BTreeSet<String>>>,
}

impl Pages {
    /// Opens one page for each of these names. All are healthy.
    pub(crate) async fn open(names: BTreeSet<String>) -> Self {
        let mut pages = Self { addresses: BTreeMap::new(), hanging: Arc::default() };
        for name in names {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            pages.addresses.insert(name.clone(), listener.local_addr().unwrap());
            tokio::spawn(serve(listener, name, pages.hanging.clone()));
        }
        pages
    }

    /// The metrics URL of this backend.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("http://{}/metrics", self.addresses[name])
    }

    /// From now on exactly these hang.
    pub(crate) fn hang(&self, names: BTreeSet<String>) {
        *self.hanging.lock().unwrap() = names;
    }

    /// This one no longer hangs.
    pub(crate) fn mend(&self, name: &str) {
        self.hanging.lock().unwrap().remove(name);
    }
}

async fn serve(listener: TcpListener, name: String, hanging: Arc<Mutex<BTreeSet<String>>>) {
    while let Ok((client, _)) = listener.accept().await {
        let (name, hanging) = (name.clone(), hanging.clone());
        let service = service_fn(move |request| answer(request, hanging.lock().unwrap().contains(&name)));
        let serve = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(client), service);
        // The client may give up at any time.
        tokio::spawn(async move { drop(serve.await) });
    }
}

async fn answer(_: Request<Incoming>, hangs: bool) -> Result<Response<Full<Bytes>>, Infallible> {
    if hangs {
        std::future::pending::<()>().await;
    }
    let page = "# TYPE up gauge\nup 1\n";
    let answer = Response::builder().header("content-type", "text/plain; version=0.0.4").body(page.into());
    Ok(answer.expect("its parts are constants"))
}
