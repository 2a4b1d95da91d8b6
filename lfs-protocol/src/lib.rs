//! What Auxin and its Git LFS clients share: wire types, and how large files are cut, encoded, packed and
//! put together again. Nothing here knows a network, a file system or a server.
//!
//! ```text
//! Oid · Pointer       names of objects, and what git stores in their place
//! batch               requests and answers of the LFS API
//! locks               requests and answers of its locking API
//! cut ─ container     a file becomes chunks; cuts are forced where audio begins and ends
//! codec               a chunk becomes a frame
//! pack                many frames in one immutable object, with an index at its end
//! recipe              the chunks that make one object
//! chunked             what travels besides in the chunked transfer
//! ```

#![forbid(unsafe_code)]

pub mod batch;
mod chunk;
pub mod chunked;
pub mod codec;
mod container;
mod cut;
pub mod locks;
mod oid;
pub mod pack;
mod pointer;
pub mod recipe;

pub use chunk::{ChunkId, Chunking};
pub use container::{AudioLayout, PcmFormat, audio_layout};
pub use cut::{Chunk, CutError, Cutter, HEAD_BYTES};
pub use oid::{BadOid, Oid};
pub use pointer::{BadPointer, Extension, MAX_POINTER_BYTES, Parsed, Pointer};
