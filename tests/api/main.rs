//! The HTTP surface, in process: exact headers and statuses, limits, proxies, TLS, and input that
//! no decent client sends.

mod auxin_transfer;
mod auxin_upload;
mod bundles;
mod compare;
mod fetching;
mod hostile;
mod lfs;
mod locks;
mod proxies;
mod pushing;
mod routes;
mod sign_in;
mod sounds;
mod stopping;
mod support;
mod tls;
