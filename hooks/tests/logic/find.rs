//! Where projects are found.

use git_auxin::logic::{Found, Kind, Layout, Limits, find};
use proptest::prelude::*;

fn found(paths: &[&str]) -> Vec<Found> {
    find(paths.iter().copied(), &Limits::default())
}

fn paths(found: &[Found]) -> Vec<&str> {
    found.iter().map(|found| found.path.as_str()).collect()
}

#[test]
fn the_tree_itself_can_be_the_bundle() {
    let all = found(&[
        "Alternatives/000/ProjectData",
        "Alternatives/002/MetaData.plist",
        "Media/Audio Files/a.wav",
    ]);
    assert_eq!(paths(&all), [""]);
    let one = &all[0];
    assert_eq!(one.alternatives, [0, 2]);
    assert_eq!((one.kind, one.name()), (None, None));
    assert_eq!(
        one.file("Resources/ProjectInformation.plist"),
        "Resources/ProjectInformation.plist"
    );
    assert_eq!(
        one.alternative_file(2, "ProjectData").as_deref(),
        Some("Alternatives/002/ProjectData")
    );
    assert_eq!(one.media_folder(Layout::Package), "Media");
}

#[test]
fn several_projects_in_folders_are_found_with_their_kind_and_layout() {
    let all = found(&[
        "README.md",
        "Album/One.logicx/Alternatives/000/ProjectData",
        "Album/One.logicx/Alternatives/000/Project File Backups/00/ProjectData",
        "Album/Two/.musicapps-project-folder",
        "Album/Two/Two.logicx/Alternatives/4294967295/ProjectData",
        "Album/Two/Audio Files/a.wav",
        "Idea.BAND/Alternatives/000/MetaData.plist",
        "Idea.BAND/Other.logicx/Alternatives/000/ProjectData",
        "Idea.BAND.txt/x",
        "Plain/Alternatives/001/ProjectData",
        "NoProject/Alternatives/x1/ProjectData",
        "NoProject/Alternatives/99999999999/ProjectData",
    ]);
    assert_eq!(
        paths(&all),
        ["Album/One.logicx", "Album/Two/Two.logicx", "Idea.BAND", "Plain"]
    );
    assert_eq!(all[0].layout, Layout::Package);
    assert_eq!(all[0].media_folder(Layout::Package), "Album/One.logicx/Media");
    assert_eq!((all[1].layout, all[1].name()), (Layout::Folder, Some("Two")));
    assert_eq!(all[1].media_folder(Layout::Folder), "Album/Two");
    assert_eq!(all[1].alternatives, [u32::MAX]);
    assert_eq!(all[2].kind, Some(Kind::GarageBand));
}

#[test]
fn a_folder_that_only_looks_like_a_project_has_no_alternatives() {
    let all = found(&["Empty.logicx/Media/Audio Files/a.wav", ".logicx/x"]);
    assert_eq!(paths(&all), ["Empty.logicx"]);
    assert!(all[0].alternatives.is_empty());
}

#[test]
fn limits_hold() {
    let many: Vec<_> = (0..300)
        .map(|n| format!("{n:03}.logicx/Alternatives/000/ProjectData"))
        .collect();
    assert_eq!(found(&many.iter().map(String::as_str).collect::<Vec<_>>()).len(), 200);
    let many: Vec<_> = (0..100)
        .map(|n| format!("A.logicx/Alternatives/{n:03}/ProjectData"))
        .collect();
    let all = found(&many.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!((all[0].alternatives.len(), all[0].is_cut), (64, true));
}

proptest! {
    #[test]
    fn no_project_lies_within_another_and_the_order_of_paths_does_not_matter(
        mut all in prop::collection::vec(
            "((a|b|a\\.logicx|b\\.band|Alternatives|000|1)/){0,5}(ProjectData|MetaData.plist|\\.musicapps-project-folder)",
            0..12,
        ),
    ) {
        let first = found(&all.iter().map(String::as_str).collect::<Vec<_>>());
        for (at, one) in first.iter().enumerate() {
            for other in &first[at + 1..] {
                prop_assert!(!one.path.is_empty());
                let inner = format!("{}/", one.path);
                prop_assert!(!other.path.starts_with(&inner));
            }
        }
        all.reverse();
        prop_assert_eq!(first, found(&all.iter().map(String::as_str).collect::<Vec<_>>()));
    }
}
