//! The course of one request, from its first byte to the last of the answer.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::time::Duration;

use gix::ObjectId;

use super::answers::{ListingKey, ListingKind};
use super::history::History;
use super::object_info::{self, ObjectInfoRequest};
use super::request::{
    ClientFacts, FetchRequest, HavesEnd, INFINITE_DEPTH, LsRefsRequest, RequestLimits, V2Request, parse_v0, parse_v2,
};
use super::response::{PackAnswer, send_pack, send_planned};
use super::wants::{Access, WantedRef};
use super::{Asked, Protocol, UploadError, UploadOptions, UploadStats, bundles};
use crate::git::advertise::{
    HexId, allows_filter, allows_reachable_wants, allows_ref_in_want, allows_sideband_all, object_format,
    offers_bundle_uri, offers_object_info,
};
use crate::git::emit::PackStats;
use crate::git::filter::{Filter, FilterLimits};
use crate::git::ls_refs;
use crate::git::negotiate::{Ack, AckSuffix, Common, Have};
use crate::git::pkt_line::{PktWriter, quotable};
use crate::git::plan::{self, PackPlan, PackRequest};
use crate::git::repo_config::PackfileUri;
use crate::git::shallow::{Boundary, BoundaryRequest, boundary};
use crate::git::snapshot::{Repository, Snapshot};

type Writer<'o> = PktWriter<&'o mut dyn Write>;

/// Answers the body of one `POST …/git-upload-pack`.
///
/// `input` is the body, already decompressed. A request for nothing is answered by nothing, which
/// is right over HTTP.
///
/// # Errors
/// [`UploadError`], for the log: what the client may know of it was written to `out` as an `ERR`
/// line, or on band 3 once the pack had begun.
pub fn serve(
    repository: &Repository,
    options: &UploadOptions<'_>,
    input: &mut dyn Read,
    out: &mut dyn Write,
) -> Result<UploadStats, UploadError> {
    let mut exchange = Exchange {
        repository,
        options,
        out: PktWriter::new(out),
        stats: UploadStats::default(),
        has_pack_begun: false,
    };
    let limits = RequestLimits::from(options.limits);
    let done = match options.protocol {
        Protocol::V0 | Protocol::V1 => parse_v0(input, &limits)
            .map_err(UploadError::from)
            .and_then(|request| exchange.fetch_v0(request)),
        Protocol::V2 => match parse_v2(input, &limits) {
            Ok(V2Request::Empty) => Ok(()),
            Ok(V2Request::LsRefs(request)) => exchange.ls_refs(request),
            Ok(V2Request::Fetch(request)) => exchange.fetch_v2(*request),
            Ok(V2Request::ObjectInfo(request)) => exchange.object_info(&request),
            Ok(V2Request::BundleUri(client)) => exchange.bundle_uri(client),
            Err(error) => Err(error.into()),
        },
    };
    match done {
        Ok(()) => {
            exchange.out.flush_out()?;
            Ok(exchange.stats)
        }
        Err(error) => {
            if !exchange.has_pack_begun
                && let Some(sentence) = error.sentence()
            {
                // The cause matters more than a client that cannot hear of it any more.
                let _ = exchange.out.error(&sentence).and_then(|()| exchange.out.flush_out());
            }
            Err(error)
        }
    }
}

struct Exchange<'e, 'o> {
    repository: &'e Repository,
    options: &'e UploadOptions<'e>,
    out: Writer<'o>,
    stats: UploadStats,
    /// From here on failures are told on band 3.
    has_pack_begun: bool,
}

impl<'e> Exchange<'e, '_> {
    fn ls_refs(&mut self, request: LsRefsRequest) -> Result<(), UploadError> {
        self.stats.asked = Asked::Refs;
        self.stats.client = request.client.clone();
        let snapshot = self.options.snapshot(self.repository)?;
        check_object_format(&snapshot, request.client.object_format.as_deref())?;
        let Some(answers) = &snapshot.answers else {
            self.stats.refs = ls_refs::write(&snapshot, &request, &mut self.out)?;
            return Ok(());
        };
        let key = ListingKey {
            snapshot: snapshot.number(),
            what: ListingKind::LsRefs {
                prefixes: request.prefixes.clone(),
                peel: request.peel,
                symrefs: request.symrefs,
                unborn: request.unborn,
            },
        };
        let listing = answers.listing(key, |bytes| {
            let mut out = PktWriter::new(bytes);
            let refs = ls_refs::write(&snapshot, &request, &mut out)?;
            out.flush_out()?;
            Ok(refs)
        })?;
        self.stats.refs = listing.refs;
        self.out.flush_out()?;
        self.out.inner().write_all(&listing.bytes)?;
        Ok(())
    }

    fn object_info(&mut self, request: &ObjectInfoRequest) -> Result<(), UploadError> {
        self.stats.asked = Asked::ObjectInfo;
        self.stats.client = request.client.clone();
        self.stats.wants = request.ids.len();
        let options = self.options;
        let mut access = Access::new(self.repository, options)?;
        if !offers_object_info(&access.snapshot, options.limits) {
            return refuse("invalid command 'object-info'");
        }
        check_object_format(&access.snapshot, request.client.object_format.as_deref())?;
        let is_reach_enough = allows_reachable_wants(&access.snapshot, options.limits);
        let mut check = || options.work.check();
        let unknown = access.unknown(self.repository, &request.ids, is_reach_enough, &mut check)?;
        let is_known = |id: &ObjectId| !unknown.contains(id);
        object_info::write(&access.snapshot, request, is_known, &mut self.out, &mut check)
    }

    fn bundle_uri(&mut self, client: ClientFacts) -> Result<(), UploadError> {
        self.stats.asked = Asked::Bundles;
        let snapshot = self.options.snapshot(self.repository)?;
        if !offers_bundle_uri(&snapshot, self.options.limits) {
            return refuse("invalid command 'bundle-uri'");
        }
        check_object_format(&snapshot, client.object_format.as_deref())?;
        self.stats.client = client;
        bundles::write(self.repository, self.options, &mut self.out)
    }

    fn fetch_v2(&mut self, mut request: FetchRequest) -> Result<(), UploadError> {
        let options = self.options;
        let mut access = self.begin(&request)?;
        if request.sideband_all {
            if !allows_sideband_all(&access.snapshot, options.limits) {
                return refuse("unexpected line: 'sideband-all'");
            }
            self.out.use_sideband_all();
        }
        if let (false, Some(name)) = (
            allows_ref_in_want(&access.snapshot, options.limits),
            request.want_refs.first(),
        ) {
            return refuse(format!("unexpected line: 'want-ref {}'", quotable(name)));
        }
        let wanted_refs = access.wanted_refs(&request)?;
        let mut seen: HashSet<ObjectId> = request.wants.iter().copied().collect();
        for (_, id) in &wanted_refs {
            if seen.insert(*id) {
                request.wants.push(*id);
            }
        }
        if request.wants.is_empty() && !request.wait_for_done {
            self.stats.asked = Asked::Nothing;
            return Ok(());
        }
        let filter = self.check_wants(&mut access, &request)?;

        let snapshot = access.snapshot.clone();
        let mut check = || options.work.check();
        let haves = access.check_haves(&request.haves, &mut check)?;
        self.count_common(&haves);
        let mut history = History::new(&snapshot.objects, &snapshot.shallow);
        if !haves.is_empty() && request.end != HavesEnd::Done {
            let mut common = Common::new(&mut history, &request.wants, &haves, &mut check)?;
            let is_ready = !request.wait_for_done && common.is_ready(&mut check)?;
            self.write_acknowledgments(common.acknowledged().map(|index| haves[index].id), is_ready)?;
            if !is_ready {
                return Ok(());
            }
        }

        let boundary = self.boundary(&mut access, &mut history, &request, true)?;
        // Told even where none of the client's boundary is here: the section must not tell which
        // hidden commits exist.
        if request.deepen.is_asked() || !request.shallows.is_empty() || !snapshot.shallow.is_empty() {
            self.out.line(&[b"shallow-info\n"])?;
            self.write_boundary(&boundary)?;
            self.out.delim()?;
        }
        self.write_wanted_refs(&wanted_refs)?;
        self.stats.pack = Some(self.write_pack(&snapshot, request, filter, boundary, &haves)?);
        Ok(())
    }

    fn fetch_v0(&mut self, request: FetchRequest) -> Result<(), UploadError> {
        if request.wants.is_empty() {
            self.stats.client = request.client;
            return Ok(());
        }
        let options = self.options;
        let mut access = self.begin(&request)?;
        let filter = self.check_wants(&mut access, &request)?;

        let snapshot = access.snapshot.clone();
        let mut check = || options.work.check();
        let mut history = History::new(&snapshot.objects, &snapshot.shallow);
        let boundary = self.boundary(&mut access, &mut history, &request, false)?;
        if request.deepen.is_asked() {
            self.write_boundary(&boundary)?;
            self.out.flush()?;
        }
        if request.end == HavesEnd::Absent {
            return Ok(());
        }

        history.add_parentless(&boundary.parentless);
        let haves = access.check_haves(&request.haves, &mut check)?;
        self.count_common(&haves);
        let mut wants = request.wants.clone();
        wants.extend(&boundary.extra_wants);
        let answer = Common::new(&mut history, &wants, &haves, &mut check)?.answer_v0(
            &haves,
            request.end,
            request.ack_mode,
            request.no_done,
            &mut check,
        )?;
        drop(history);
        for line in answer.lines {
            self.write_ack(line)?;
        }
        if answer.sends_pack {
            self.stats.pack = Some(self.write_pack(&snapshot, request, filter, boundary, &haves)?);
        }
        Ok(())
    }

    fn begin(&mut self, request: &FetchRequest) -> Result<Access<'e>, UploadError> {
        self.stats.asked = Asked::Fetch;
        self.stats.client = request.client.clone();
        self.stats.filter = request.filter.clone();
        self.stats.wants = request.wants.len() + request.want_refs.len();
        self.stats.haves = request.haves.len();
        self.stats.is_shallow = request.deepen.is_asked() || !request.shallows.is_empty();
        self.options.work.check()?;
        let access = Access::new(self.repository, self.options)?;
        let mut claimed = request.client.object_format.clone();
        if self.options.protocol != Protocol::V2 {
            // Here stock git says nothing, and the length of its ids tells.
            claimed = claimed.or_else(|| request.wants.first().map(|id| id.kind().to_string()));
        }
        check_object_format(&access.snapshot, claimed.as_deref())?;
        Ok(access)
    }

    /// Checks what is wanted, the blobs that hold a filter's patterns included.
    fn check_wants(&self, access: &mut Access<'_>, request: &FetchRequest) -> Result<Filter, UploadError> {
        let filter = self.filter(&access.snapshot, request)?;
        let mut check = || self.options.work.check();
        let filter = filter.resolve(&mut |name| access.named_blob(self.repository, name, &mut check))?;
        let mut named = request.wants.clone();
        named.extend(filter.pattern_blobs());
        access.check_wants(self.repository, &named, &mut || self.options.work.check())?;
        filter
            .check_patterns(&access.snapshot.objects, FilterLimits::from(self.options.limits))?
            .map_err(|error| UploadError::Refused(error.to_string()))?;
        Ok(filter)
    }

    fn filter(&self, snapshot: &Snapshot, request: &FetchRequest) -> Result<Filter, UploadError> {
        let Some(text) = &request.filter else {
            return Ok(Filter::None);
        };
        let limits = self.options.limits;
        if !allows_filter(snapshot, limits) {
            return refuse(format!("filter '{}' not supported", quotable(text.as_bytes())));
        }
        let filter =
            Filter::parse(text, FilterLimits::from(limits)).map_err(|error| UploadError::Refused(error.to_string()))?;
        for name in filter.names() {
            if !snapshot.config.allows_filter(name) {
                return refuse(format!("filter '{name}' not supported"));
            }
        }
        if let (Some(most), Some(depth)) = (snapshot.config.tree_filter_max_depth, tree_depth(&filter))
            && depth > most
        {
            return refuse(format!("tree filter allows max depth {most}, but got {depth}"));
        }
        Ok(filter)
    }

    fn boundary(
        &self,
        access: &mut Access<'_>,
        history: &mut History<'_>,
        request: &FetchRequest,
        tells_server_boundary: bool,
    ) -> Result<Boundary, UploadError> {
        let mut check = || self.options.work.check();
        let excluded = access.deepen_not(request)?;
        // Any other depth tells only of commits that the wants reach.
        let tells_all = request.deepen.depth == Some(INFINITE_DEPTH);
        let client = access.shallow_commits(self.repository, history, &request.shallows, tells_all, &mut check)?;
        let server_shallow = access.snapshot.shallow.clone();
        let asked = BoundaryRequest {
            wants: &request.wants,
            client: &client,
            deepen: &request.deepen,
            excluded: &excluded,
            server_shallow: &server_shallow,
            tells_server_boundary,
        };
        Ok(boundary(history, &asked, &mut check)?)
    }

    fn count_common(&mut self, haves: &[Have]) {
        self.stats.common = haves.iter().filter(|have| have.is_common).count();
    }

    fn write_acknowledgments(
        &mut self,
        common: impl Iterator<Item = ObjectId>,
        is_ready: bool,
    ) -> Result<(), UploadError> {
        self.out.line(&[b"acknowledgments\n"])?;
        let mut has_any = false;
        for id in common {
            has_any = true;
            self.out.line(&[b"ACK ", HexId::new(&id).as_bytes(), b"\n"])?;
        }
        if !has_any {
            self.out.line(&[b"NAK\n"])?;
        }
        if is_ready {
            self.out.line(&[b"ready\n"])?;
            self.out.delim()?;
        } else {
            self.out.flush()?;
        }
        Ok(())
    }

    fn write_ack(&mut self, line: Ack) -> Result<(), UploadError> {
        match line {
            Ack::Nak => self.out.line(&[b"NAK\n"])?,
            Ack::Ack(id, suffix) => {
                let suffix: &[u8] = match suffix {
                    AckSuffix::Final => b"",
                    AckSuffix::Continue => b" continue",
                    AckSuffix::Common => b" common",
                    AckSuffix::Ready => b" ready",
                };
                self.out.line(&[b"ACK ", HexId::new(&id).as_bytes(), suffix, b"\n"])?;
            }
        }
        Ok(())
    }

    fn write_boundary(&mut self, boundary: &Boundary) -> Result<(), UploadError> {
        for id in &boundary.shallow {
            self.out.line(&[b"shallow ", HexId::new(id).as_bytes()])?;
        }
        for id in &boundary.unshallow {
            self.out.line(&[b"unshallow ", HexId::new(id).as_bytes()])?;
        }
        Ok(())
    }

    fn write_wanted_refs(&mut self, wanted: &[WantedRef]) -> Result<(), UploadError> {
        if wanted.is_empty() {
            return Ok(());
        }
        self.out.line(&[b"wanted-refs\n"])?;
        for (name, id) in wanted {
            self.out.line(&[HexId::new(id).as_bytes(), b" ", name, b"\n"])?;
        }
        self.out.delim()?;
        Ok(())
    }

    fn write_pack(
        &mut self,
        snapshot: &Snapshot,
        request: FetchRequest,
        filter: Filter,
        boundary: Boundary,
        haves: &[Have],
    ) -> Result<PackStats, UploadError> {
        let mut wants = request.wants;
        wants.extend(boundary.extra_wants);
        let asked = PackRequest {
            wants,
            haves: haves.iter().filter(|have| have.is_common).map(|have| have.id).collect(),
            shallow_involved: !request.shallows.is_empty() || !boundary.shallow.is_empty(),
            parentless: boundary.parentless,
            extra_edges: boundary.unshallow,
            // What a filter left out the client lacks, so nothing may build on it.
            thin: request.thin_pack && filter == Filter::None,
            filter,
            ofs_delta: request.ofs_delta,
            include_tag: request.include_tag,
        };
        let keep_alive_secs = snapshot
            .config
            .upload_keep_alive_secs
            .unwrap_or(self.options.limits.keep_alive_secs);
        let answer = PackAnswer {
            sideband: request.sideband,
            shows_progress: !request.no_progress,
            keep_alive: (keep_alive_secs > 0).then(|| Duration::from_secs(keep_alive_secs)),
        };
        let is_elsewhere = |uri: &&PackfileUri| uri.is_reached_by(&request.uri_protocols);
        let elsewhere: Vec<&PackfileUri> = snapshot.config.packfile_uris.iter().filter(is_elsewhere).collect();
        let work = self.options.work;
        // What lies elsewhere must be known before the pack begins.
        let planned = match elsewhere.is_empty() {
            true => None,
            false => Some(self.plan_without(&elsewhere, plan::plan(snapshot, &asked, &mut || work.check())?)?),
        };
        if self.options.protocol == Protocol::V2 {
            self.out.line(&[b"packfile\n"])?;
        }
        self.out.flush_out()?;
        self.has_pack_begun = true;
        match planned {
            None => send_pack(snapshot, &asked, answer, work, self.out.inner()),
            Some(plan) => send_planned(plan, answer, work, self.out.inner()),
        }
    }

    /// Tells where those wanted objects are that lie elsewhere, and leaves them out.
    fn plan_without<'s>(
        &mut self,
        elsewhere: &[&PackfileUri],
        mut plan: PackPlan<'s>,
    ) -> Result<PackPlan<'s>, UploadError> {
        let sent: Vec<&PackfileUri> = elsewhere
            .iter()
            .copied()
            .filter(|uri| plan.sends(&uri.object))
            .collect();
        if sent.is_empty() {
            return Ok(plan);
        }
        self.out.line(&[b"packfile-uris\n"])?;
        for PackfileUri { pack_hash, uri, .. } in &sent {
            self.out.line(&[pack_hash.as_bytes(), b" ", uri.as_bytes(), b"\n"])?;
        }
        self.out.delim()?;
        plan.leave_out(&sent.iter().map(|uri| uri.object).collect::<Vec<_>>());
        Ok(plan)
    }
}

fn refuse<T>(sentence: impl Into<String>) -> Result<T, UploadError> {
    Err(UploadError::Refused(sentence.into()))
}

/// The deepest `tree:` within a filter.
fn tree_depth(filter: &Filter) -> Option<u64> {
    match filter {
        Filter::TreeDepth(depth) => Some(*depth),
        Filter::Combine(parts) => parts.iter().filter_map(tree_depth).max(),
        _ => None,
    }
}

/// A client that says nothing means SHA-1.
fn check_object_format(snapshot: &Snapshot, claimed: Option<&str>) -> Result<(), UploadError> {
    let (server, client) = (object_format(snapshot), claimed.unwrap_or("sha1"));
    if server == client {
        return Ok(());
    }
    refuse(format!("mismatched object format: server {server}; client {client}"))
}
