//! The only module that knows `gix`: bare repositories, the wire protocol, packs and refs.
//!
//! Everything here is synchronous and may block; `service` runs it in bounded blocking pools.

pub mod advertise;
pub mod ancestry;
mod attributes;
pub mod bitmap;
pub mod bundle;
pub mod check;
mod checksum;
pub mod commit_files;
pub mod commit_graph;
pub mod commit_text;
pub mod connectivity;
pub mod delta;
pub mod durable;
pub mod emit;
pub mod fault;
pub mod filter;
pub mod fsck;
pub mod hooks;
pub mod import;
pub mod index_pack;
pub mod large_file_pointers;
pub mod lfs_pointers;
pub mod likely_bases;
pub mod links;
pub mod ls_refs;
pub mod maintenance;
pub mod midx;
pub mod negotiate;
pub mod notes;
pub mod object_store;
pub mod pkt_line;
pub mod plan;
pub mod push_changes;
pub mod quarantine;
pub mod receive_pack;
pub mod ref_transaction;
pub mod refs;
pub mod repo_config;
pub mod repo_init;
pub mod rev;
pub mod shallow;
pub mod snapshot;
pub mod spill;
mod summed;
pub mod upload_pack;
pub mod walk;
pub mod work;

pub use gix::ObjectId;
