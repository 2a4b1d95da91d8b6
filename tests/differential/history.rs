//! Histories made of steps; any list of steps is a history, so that they can be shrunk freely.

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::Random;
use crate::support::repositories::{self, on_disk, on_disk_with_input};

/// One step of a history. Numbers mean "the n-th of what there is, counted round".
#[derive(Clone, Debug)]
pub enum Step {
    /// A commit on a branch, which begins without a parent if it is new.
    Commit { branch: u8, edits: Vec<Edit>, late: bool },
    /// A new branch at any commit.
    Branch { branch: u8, at: u16 },
    /// A merge of one to seven others into a branch.
    Merge { branch: u8, others: Vec<u16> },
    /// Two branches merged into each other at once.
    CrissCross { one: u8, other: u8 },
    /// An annotated tag of a commit, or of a tag.
    Tag { at: u16, of_tag: bool },
    /// A plain tag.
    PlainTag { at: u16 },
    /// A commit with a folder of many files.
    HugeTree { branch: u8, files: u16, seed: u8 },
    /// A commit that names a commit of another project.
    Submodule { branch: u8, seed: u8 },
}

/// One change of a commit.
#[derive(Clone, Debug)]
pub enum Edit {
    /// A file with some content.
    Write { path: u8, content: u8, size: u16, mode: u8 },
    /// A file or folder goes.
    Remove { path: u8 },
}

/// How a history lies on disk.
#[derive(Clone, Copy, Debug)]
pub enum Layout {
    /// As fast-import leaves it: loose when small.
    AsImported,
    /// One pack with deltas.
    OnePack,
    /// A pack for each half and packed refs.
    TwoPacks,
    /// One pack with a bitmap and a commit graph.
    Maintained,
    /// A pack with a bitmap for the first half, one without for the rest.
    LaggingBitmap,
    /// A pack for each half, and a multi-pack-index with a bitmap.
    MultiPack,
}

const PATHS: [&str; 12] = [
    "Song.txt",
    "Audio Files/vox.wav",
    "Audio Files/bass.wav",
    "Audio Files/deep/er/take.wav",
    "Alternatives/000/ProjectData",
    "Alternatives/001/ProjectData",
    "Alternatives/001/Undo",
    "Notes/a",
    "Notes/b",
    "Notes",
    "r\u{e9}sum\u{e9}",
    "empty",
];

const BRANCHES: [&str; 6] = ["main", "solo", "feature/a", "feature/b", "x", "drums"];

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        6 => (0_u8..12, any::<u8>(), 0_u16..3000, 0_u8..10)
            .prop_map(|(path, content, size, mode)| Edit::Write { path, content, size, mode }),
        1 => (0_u8..12).prop_map(|path| Edit::Remove { path }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0_u8..6, vec(edit(), 0..4), prop::bool::weighted(0.015))
            .prop_map(|(branch, edits, late)| Step::Commit { branch, edits, late }),
        3 => (0_u8..6, any::<u16>()).prop_map(|(branch, at)| Step::Branch { branch, at }),
        3 => (0_u8..6, vec(any::<u16>(), 1..4))
            .prop_map(|(branch, others)| Step::Merge { branch, others }),
        1 => (0_u8..6, vec(any::<u16>(), 4..8))
            .prop_map(|(branch, others)| Step::Merge { branch, others }),
        2 => (0_u8..6, 0_u8..6).prop_map(|(one, other)| Step::CrissCross { one, other }),
        2 => (any::<u16>(), prop::bool::weighted(0.3))
            .prop_map(|(at, of_tag)| Step::Tag { at, of_tag }),
        1 => any::<u16>().prop_map(|at| Step::PlainTag { at }),
        1 => (0_u8..6, 100_u16..400, any::<u8>())
            .prop_map(|(branch, files, seed)| Step::HugeTree { branch, files, seed }),
        1 => (0_u8..6, 1_u8..=255).prop_map(|(branch, seed)| Step::Submodule { branch, seed }),
    ]
}

/// Histories of up to forty steps.
pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    vec(step(), 1..40)
}

/// All layouts.
pub fn layout() -> impl Strategy<Value = Layout> {
    prop_oneof![
        Just(Layout::AsImported),
        Just(Layout::OnePack),
        Just(Layout::TwoPacks),
        Just(Layout::Maintained),
        Just(Layout::LaggingBitmap),
        Just(Layout::MultiPack),
    ]
}

/// The object format of a history, in git's word: one in four has SHA-256 ids.
pub fn format(steps: &[Step]) -> &'static str {
    if steps.len().is_multiple_of(4) {
        "sha256"
    } else {
        "sha1"
    }
}

/// What the steps so far have made.
#[derive(Default)]
struct Builder {
    id_bytes: usize,
    stream: String,
    mark: usize,
    commits: Vec<usize>,
    tags: Vec<usize>,
    plain_tags: usize,
    tips: [Option<usize>; 6],
    clock: u64,
}

impl Builder {
    fn head(&mut self, branch: u8, late: bool) -> usize {
        self.mark += 1;
        self.clock += 1;
        // A clock that was wrong: long before the parents.
        let at = if late {
            1_500_000_000 + self.clock
        } else {
            1_700_000_000 + 60 * self.clock
        };
        let message = format!("Take {}\n", self.mark);
        self.stream.push_str(&format!(
            "commit refs/heads/{}\nmark :{}\nauthor Ada <ada@example.org> {at} +0100\n\
             committer Ada <ada@example.org> {at} +0100\ndata {}\n{message}",
            BRANCHES[branch as usize],
            self.mark,
            message.len()
        ));
        self.mark
    }

    fn from(&mut self, parents: &[usize]) {
        for (number, parent) in parents.iter().enumerate() {
            let word = if number == 0 { "from" } else { "merge" };
            self.stream.push_str(&format!("{word} :{parent}\n"));
        }
    }

    fn file(&mut self, mode: &str, path: &str, content: &str) {
        self.stream
            .push_str(&format!("M {mode} inline {path}\ndata {}\n{content}\n", content.len()));
    }

    fn done(&mut self, branch: u8, mark: usize) {
        self.stream.push('\n');
        self.commits.push(mark);
        self.tips[branch as usize] = Some(mark);
    }

    fn commit(&self, at: u16) -> Option<usize> {
        let count = self.commits.len();
        (count > 0).then(|| self.commits[at as usize % count])
    }

    /// The tip of a branch as parents, none for a new one.
    fn parents(&self, branch: u8) -> Vec<usize> {
        self.tips[branch as usize].into_iter().collect()
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Commit { branch, edits, late } => {
                let parents = self.parents(*branch);
                let mark = self.head(*branch, *late);
                self.from(&parents);
                for edit in edits {
                    self.edit(edit);
                }
                self.done(*branch, mark);
            }
            Step::Branch { branch, at } => {
                if let Some(mark) = self.commit(*at) {
                    let name = BRANCHES[*branch as usize];
                    self.stream
                        .push_str(&format!("reset refs/heads/{name}\nfrom :{mark}\n\n"));
                    self.tips[*branch as usize] = Some(mark);
                }
            }
            Step::Merge { branch, others } => {
                let mut parents = self.parents(*branch);
                for other in others {
                    if let Some(mark) = self.commit(*other)
                        && !parents.contains(&mark)
                    {
                        parents.push(mark);
                    }
                }
                if !parents.is_empty() {
                    let mark = self.head(*branch, false);
                    self.from(&parents);
                    self.done(*branch, mark);
                }
            }
            Step::CrissCross { one, other } => {
                let tips = (self.tips[*one as usize], self.tips[*other as usize]);
                if let (Some(first), Some(second)) = tips
                    && first != second
                {
                    for (branch, parents) in [(*one, [first, second]), (*other, [second, first])] {
                        let mark = self.head(branch, false);
                        self.from(&parents);
                        self.done(branch, mark);
                    }
                }
            }
            Step::Tag { at, of_tag } => {
                let target = if *of_tag && !self.tags.is_empty() {
                    Some(self.tags[*at as usize % self.tags.len()])
                } else {
                    self.commit(*at)
                };
                if let Some(target) = target {
                    self.mark += 1;
                    self.stream.push_str(&format!(
                        "tag mix-{}\nmark :{}\nfrom :{target}\n\
                         tagger Ada <ada@example.org> 1700000000 +0100\ndata 4\nMix\n\n",
                        self.tags.len(),
                        self.mark
                    ));
                    self.tags.push(self.mark);
                }
            }
            Step::PlainTag { at } => {
                if let Some(mark) = self.commit(*at) {
                    let number = self.plain_tags;
                    self.plain_tags += 1;
                    self.stream
                        .push_str(&format!("reset refs/tags/plain-{number}\nfrom :{mark}\n\n"));
                }
            }
            Step::HugeTree { branch, files, seed } => {
                let parents = self.parents(*branch);
                let mark = self.head(*branch, false);
                self.from(&parents);
                for file in 0..*files {
                    self.file("100644", &format!("Many/{file:03}"), &format!("{seed} {file}"));
                }
                self.done(*branch, mark);
            }
            Step::Submodule { branch, seed } => {
                let parents = self.parents(*branch);
                let mark = self.head(*branch, false);
                self.from(&parents);
                let commit = format!("{seed:02x}").repeat(self.id_bytes);
                self.stream.push_str(&format!("M 160000 {commit} Plugins/other\n"));
                self.done(*branch, mark);
            }
        }
    }

    fn edit(&mut self, edit: &Edit) {
        match edit {
            Edit::Write {
                path,
                content,
                size,
                mode,
            } => {
                let mode = match mode {
                    0 => "100755",
                    1 => "120000",
                    _ => "100644",
                };
                let path = PATHS[*path as usize];
                let text = content_of(*content, *size);
                self.file(mode, path, &text);
            }
            Edit::Remove { path } => {
                self.stream.push_str(&format!("D {}\n", PATHS[*path as usize]));
            }
        }
    }
}

/// Text that shares much with its neighbours, so that deltas are found.
fn content_of(content: u8, size: u16) -> String {
    let mut random = Random::new(u64::from(content % 16));
    let mut text = format!("{content}\n");
    while text.len() < size as usize {
        text.push_str(&format!("{:x} la\n", random.next_u64()));
    }
    text
}

/// Writes a history into an empty bare repository.
pub fn write(steps: &[Step], layout: Layout, bare: &Path) {
    let mut builder = Builder {
        id_bytes: repositories::id_digits(bare) / 2,
        ..Builder::default()
    };
    let middle = match layout {
        Layout::TwoPacks | Layout::LaggingBitmap | Layout::MultiPack => steps.len() / 2,
        _ => steps.len(),
    };
    for step in &steps[..middle] {
        builder.step(step);
    }
    let marks = bare.join("marks").display().to_string();
    import(bare, &std::mem::take(&mut builder.stream), &marks);
    if middle < steps.len() {
        let first_half: &[&str] = match layout {
            // What no ref reaches stays, loose: later steps may build on it.
            Layout::LaggingBitmap => &["repack", "-Adq", "--write-bitmap-index"],
            _ => &["repack", "-dq"],
        };
        on_disk(bare, first_half).assert_ok();
        on_disk(bare, &["pack-refs", "--all"]).assert_ok();
        for step in &steps[middle..] {
            builder.step(step);
        }
        import(bare, &builder.stream, &marks);
        on_disk(bare, &["repack", "-dq"]).assert_ok();
    }
    match layout {
        Layout::AsImported | Layout::TwoPacks | Layout::LaggingBitmap => {}
        Layout::OnePack => {
            on_disk(bare, &["repack", "-adfq"]).assert_ok();
        }
        Layout::MultiPack => {
            // A small import is loose, and of nothing there is no index.
            on_disk(bare, &["repack", "-dq"]).assert_ok();
            if std::fs::read_dir(bare.join("objects/pack"))
                .expect("lists")
                .next()
                .is_some()
            {
                on_disk(bare, &["multi-pack-index", "write", "--bitmap"]).assert_ok();
            }
        }
        Layout::Maintained => {
            on_disk(bare, &["repack", "-adq", "--write-bitmap-index"]).assert_ok();
            on_disk(bare, &["commit-graph", "write", "--reachable"]).assert_ok();
            on_disk(bare, &["pack-refs", "--all"]).assert_ok();
        }
    }
}

fn import(bare: &Path, stream: &str, marks: &str) {
    let import_marks = format!("--import-marks-if-exists={marks}");
    let export_marks = format!("--export-marks={marks}");
    on_disk_with_input(
        bare,
        &["fast-import", "--quiet", "--force", &import_marks, &export_marks],
        stream.as_bytes(),
    )
    .assert_ok();
}
