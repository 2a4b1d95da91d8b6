//! Types shared by Auxin and its Git LFS clients. No input or output happens here.
//!
//! - [`Oid`]: the name of a Git LFS object, the SHA-256 of its bytes.
//! - [`Pointer`]: the small text that git stores in place of a large file.

#![forbid(unsafe_code)]

mod oid;
mod pointer;

pub use oid::{BadOid, Oid};
pub use pointer::{BadPointer, Extension, MAX_POINTER_BYTES, Parsed, Pointer};
