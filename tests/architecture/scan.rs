//! Finds every path in a source file, with the names that `use … as …` gave resolved.

use std::collections::HashMap;
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// How often a name may lead to another name.
const MAX_ALIASES: usize = 8;

/// One source file.
pub struct Source {
    /// Path from the root of the workspace, with slashes.
    pub file: String,
    /// What `self` is at the top of the file: `["http", "api"]`.
    module: Vec<String>,
    tokens: TokenStream,
}

/// One path that the code mentions.
#[derive(Clone, Debug)]
pub struct Use {
    /// Its line, from 1.
    pub line: usize,
    /// Absolute: `crate`, module, …, or the name of a library, …. A glob ends in `*`.
    pub path: Vec<String>,
    /// It stands in a `use` or `extern crate`.
    pub imported: bool,
    /// It stands in a `pub use`.
    pub exported: bool,
    /// Why it cannot be judged by its path.
    pub trick: Option<&'static str>,
}

impl Use {
    /// Whether the path is `path` or lies below it.
    pub fn is_of(&self, path: &str) -> bool {
        let mut parts = self.path.iter();
        path.split("::").all(|part| parts.next().is_some_and(|own| own == part))
    }
}

impl Source {
    /// Every `.rs` file in `folder` and below.
    pub fn read_all(folder: &Path, root: &Path) -> Vec<Self> {
        let mut sources = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).expect("a folder of source") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|ending| ending == "rs") {
                    let file = path.strip_prefix(root).expect("below the root");
                    let file = file.to_string_lossy().replace('\\', "/");
                    let code = std::fs::read_to_string(&path).expect("source is text");
                    sources.push(Self::parse(&file, &code));
                }
            }
        }
        sources.sort_by(|a, b| a.file.cmp(&b.file));
        sources
    }

    /// A file of which path and text are known.
    pub fn parse(file: &str, code: &str) -> Self {
        let tokens = code
            .parse()
            .unwrap_or_else(|error| panic!("{file} is not Rust: {error}"));
        let inside = file.split_once("src/").map_or(file, |(_, inside)| inside);
        let inside = inside.strip_suffix(".rs").unwrap_or(inside);
        let mut module: Vec<String> = inside.split('/').map(str::to_owned).collect();
        if ["mod", "lib", "main"].contains(&module.last().map_or("", String::as_str)) {
            module.pop();
        }
        Self {
            file: file.to_owned(),
            module,
            tokens,
        }
    }

    /// The module at the top of the crate that this file belongs to.
    pub fn layer(&self) -> Option<&str> {
        match self.file.as_str() {
            "src/main.rs" => Some("main"),
            _ => self.module.first().map(String::as_str),
        }
    }

    /// Every path in the file.
    pub fn uses(&self) -> Vec<Use> {
        let mut walk = Walk::default();
        walk.tokens(self.tokens.clone(), &self.module);
        let Walk { found, names } = walk;
        let mut uses = Vec::new();
        for (module, used) in found {
            for path in names.resolve(&module, &used.path, MAX_ALIASES) {
                let glob_of_all = path.len() == 2 && path[0] == "crate" && path[1] == "*";
                let trick = glob_of_all.then_some("a glob over the whole crate hides what is used");
                uses.push(Use {
                    path,
                    trick: used.trick.or(trick),
                    ..used.clone()
                });
            }
        }
        uses
    }
}

/// Names that stand for paths, by the module they were given in.
#[derive(Default)]
struct Names(HashMap<(Vec<String>, String), Vec<Vec<String>>>);

impl Names {
    fn give(&mut self, module: &[String], name: &str, path: Vec<String>) {
        let paths = self.0.entry((module.to_owned(), name.to_owned())).or_default();
        if !paths.contains(&path) {
            paths.push(path);
        }
    }

    /// The absolute paths that `path` may mean in `module`. A leading empty part is a leading `::`.
    fn resolve(&self, module: &[String], path: &[String], depth: usize) -> Vec<Vec<String>> {
        let absolute = |module: &[String], rest: &[String]| {
            let mut whole = vec!["crate".to_owned()];
            whole.extend_from_slice(module);
            whole.extend_from_slice(rest);
            whole
        };
        match path[0].as_str() {
            "" => return vec![path[1..].to_vec()],
            "crate" | "auxin" => return vec![absolute(&[], &path[1..])],
            "self" if path.len() > 1 => {
                return self.resolve_local(module, &path[1..], depth);
            }
            "super" => {
                let supers = path.iter().take_while(|part| *part == "super").count();
                let kept = module.len().saturating_sub(supers);
                return vec![absolute(&module[..kept], &path[supers..])];
            }
            _ => {}
        }
        // A name that `use super::*` brings in was given further up.
        for kept in (0..=module.len()).rev() {
            let key = (module[..kept].to_vec(), path[0].clone());
            if let Some(meanings) = self.0.get(&key).filter(|_| depth > 0) {
                let mut all = Vec::new();
                for meaning in meanings.iter().filter(|meaning| meaning.as_slice() != path) {
                    let mut whole = meaning.clone();
                    whole.extend_from_slice(&path[1..]);
                    all.extend(self.resolve(&key.0, &whole, depth - 1));
                }
                if !all.is_empty() {
                    return all;
                }
            }
        }
        vec![path.to_vec()]
    }

    fn resolve_local(&self, module: &[String], rest: &[String], depth: usize) -> Vec<Vec<String>> {
        let known = self.0.contains_key(&(module.to_owned(), rest[0].clone()));
        if known && depth > 0 {
            return self.resolve(module, rest, depth - 1);
        }
        let mut whole = vec!["crate".to_owned()];
        whole.extend_from_slice(module);
        whole.extend_from_slice(rest);
        vec![whole]
    }
}

#[derive(Default)]
struct Walk {
    /// Each path as written, with the module it stands in.
    found: Vec<(Vec<String>, Use)>,
    names: Names,
}

impl Walk {
    fn tokens(&mut self, tokens: TokenStream, module: &[String]) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            at = self.step(&tokens, at, module);
        }
    }

    /// Handles what begins at `at` and returns where the next thing begins.
    fn step(&mut self, tokens: &[TokenTree], at: usize, module: &[String]) -> usize {
        match &tokens[at] {
            TokenTree::Group(group) => {
                if at > 0 && is_punct(tokens, at - 1, '#') && group.stream().to_string().starts_with("path =") {
                    self.trick(tokens, at, "path", "a module must lie where its name says", module);
                }
                self.tokens(group.stream(), module);
                at + 1
            }
            TokenTree::Ident(word) if word == "use" && !is_punct(tokens, at + 1, '<') => {
                self.import(tokens, at, module)
            }
            TokenTree::Ident(word) if word == "extern" && is_word(tokens, at + 1, "crate") => {
                if let Some(TokenTree::Ident(library)) = tokens.get(at + 2) {
                    let path = vec![String::new(), library.to_string()];
                    if is_word(tokens, at + 3, "as")
                        && let Some(TokenTree::Ident(name)) = tokens.get(at + 4)
                    {
                        self.names.give(module, &name.to_string(), path.clone());
                    }
                    self.push(module, line(tokens, at), path, true, false);
                }
                at + 3
            }
            TokenTree::Ident(word) if word == "mod" => {
                let Some(TokenTree::Ident(name)) = tokens.get(at + 1) else {
                    return at + 1;
                };
                let mut inner = module.to_vec();
                inner.push(name.to_string());
                let mut path = vec!["crate".to_owned()];
                path.extend_from_slice(&inner);
                self.names.give(module, &name.to_string(), path);
                if let Some(TokenTree::Group(body)) = tokens.get(at + 2)
                    && body.delimiter() == Delimiter::Brace
                {
                    self.tokens(body.stream(), &inner);
                    return at + 3;
                }
                at + 2
            }
            TokenTree::Ident(word) if word == "include" && is_punct(tokens, at + 1, '!') => {
                self.trick(tokens, at, "include", "code must not be included as text", module);
                at + 2
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) => self.path(tokens, at, module),
            TokenTree::Literal(_) => at + 1,
        }
    }

    /// A path in an expression, type or attribute.
    fn path(&mut self, tokens: &[TokenTree], start: usize, module: &[String]) -> usize {
        let mut at = start;
        let mut parts = Vec::new();
        if is_colons(tokens, at) {
            parts.push(String::new());
            at += 2;
        }
        while let Some(TokenTree::Ident(word)) = tokens.get(at) {
            parts.push(word.to_string());
            at += 1;
            if !is_colons(tokens, at) || !matches!(tokens.get(at + 2), Some(TokenTree::Ident(_))) {
                break;
            }
            at += 2;
        }
        // After `>` a path goes on (`Vec::<u8>::new`), after `'` it is none, after `.` neither, except
        // that `..crate::x()` begins one.
        let before = |steps: usize, c| start >= steps && is_punct(tokens, start - steps, c);
        let goes_on = before(1, '>') && parts.first().is_some_and(String::is_empty)
            || before(1, '.') && !before(2, '.')
            || before(1, '\'');
        if !goes_on && parts.iter().any(|part| !part.is_empty()) {
            self.push(module, line(tokens, start), parts, false, false);
        }
        at.max(start + 1)
    }

    fn import(&mut self, tokens: &[TokenTree], at: usize, module: &[String]) -> usize {
        let end = (at..tokens.len())
            .find(|end| is_punct(tokens, *end, ';'))
            .unwrap_or(tokens.len());
        let exported = at > 0
            && (is_word(tokens, at - 1, "pub")
                || at > 1 && matches!(&tokens[at - 1], TokenTree::Group(_)) && is_word(tokens, at - 2, "pub"));
        self.tree(&tokens[at + 1..end], &[], exported, module);
        end + 1
    }

    /// One `use` tree: `a::b`, `a::{…}`, `a::*`, `a as b`.
    fn tree(&mut self, tokens: &[TokenTree], prefix: &[String], exported: bool, module: &[String]) {
        let mut path = prefix.to_vec();
        let mut name = None;
        let mut at = 0;
        if is_colons(tokens, 0) {
            path.push(String::new());
            at = 2;
        }
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Ident(word) if word == "as" => {
                    name = tokens.get(at + 1).map(ToString::to_string);
                    at += 1;
                }
                TokenTree::Ident(word) if word == "self" && !path.is_empty() => {}
                TokenTree::Ident(word) => path.push(word.to_string()),
                TokenTree::Punct(star) if star.as_char() == '*' => path.push("*".to_owned()),
                TokenTree::Group(group) => {
                    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                    for part in inner.split(|token| is_this(token, ',')) {
                        self.tree(part, &path, exported, module);
                    }
                    return;
                }
                _ => {}
            }
            at += 1;
        }
        let Some(last) = path.last().cloned() else {
            return;
        };
        let name = name.unwrap_or(last);
        if name != "*" && name != "_" {
            self.names.give(module, &name, path.clone());
        }
        self.push(module, line(tokens, 0), path, true, exported);
    }

    fn push(&mut self, module: &[String], line: usize, path: Vec<String>, imported: bool, exported: bool) {
        let used = Use {
            line,
            path,
            imported,
            exported,
            trick: None,
        };
        self.found.push((module.to_owned(), used));
    }

    fn trick(&mut self, tokens: &[TokenTree], at: usize, word: &str, why: &'static str, module: &[String]) {
        self.push(module, line(tokens, at), vec![word.to_owned()], false, false);
        if let Some((_, used)) = self.found.last_mut() {
            used.trick = Some(why);
        }
    }
}

fn line(tokens: &[TokenTree], at: usize) -> usize {
    tokens.get(at).map_or(0, |token| token.span().start().line)
}

fn is_this(token: &TokenTree, c: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == c)
}

fn is_punct(tokens: &[TokenTree], at: usize, c: char) -> bool {
    tokens.get(at).is_some_and(|token| is_this(token, c))
}

fn is_colons(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens, at, ':') && is_punct(tokens, at + 1, ':')
}

fn is_word(tokens: &[TokenTree], at: usize, word: &str) -> bool {
    matches!(tokens.get(at), Some(TokenTree::Ident(ident)) if ident == word)
}
