//! What a compiled program is kept under: a digest over all that reaches its compile step.
//!
//! The job itself is in it, so that whatever is given to a compile is in its key, and beside it what the
//! job only names: the tools, the machine's packages, the form of the jail. Each part is preceded
//! by its length, so that no two sets of parts are hashed alike.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{
    language::{LanguageDefinition, ToolIdentity},
    protocol::CacheOwner,
    sandbox::{Job, Sandbox},
};

/// 256 bits that stand for a compile.
pub(in crate::runner) type Key = blake3::Hash;

/// The sandbox layout: what a compile step sees beside its job, and how what it leaves is taken. To be
/// raised with every change of that (mounts of the base, /etc, the fixed environment, limits that are
/// no caps, what is collected).
const LAYOUT: u32 = 1;

/// What changes when the machine's packages do: headers and libraries that a compiler reads, which are
/// not the compiler. Those that are not there are passed over, and their absence counts.
const PACKAGES: [&str; 7] = [
    "/var/lib/dpkg/status",
    "/lib/apk/db/installed",
    "/var/lib/rpm/rpmdb.sqlite",
    "/var/lib/rpm/Packages",
    "/var/lib/pacman/local",
    "/etc/ld.so.cache",
    "/etc/alternatives",
];

/// All that reaches a compile step.
#[derive(Debug)]
pub(in crate::runner) struct Ingredients<'a> {
    owner: &'a CacheOwner,
    architecture: &'a str,
    layout: u32,
    /// The layers of the jail that are in force.
    layers: Vec<String>,
    language: &'a LanguageDefinition,
    tools: Vec<ToolIdentity>,
    /// Files and folders of the machine that tell of a change.
    machine: Vec<ToolIdentity>,
    job: &'a Job,
}

impl<'a> Ingredients<'a> {
    /// Those of a compile on this machine now.
    pub(in crate::runner) fn gather(
        owner: &'a CacheOwner,
        language: &'a LanguageDefinition,
        tools: Vec<ToolIdentity>,
        job: &'a Job,
        sandbox: &Sandbox,
    ) -> Ingredients<'a> {
        let layers = sandbox.layers().into_iter().filter(|layer| layer.active);
        let machine = PACKAGES.iter().map(Path::new).chain(job.mounts.iter().map(PathBuf::as_path));
        Ingredients {
            owner,
            architecture: std::env::consts::ARCH,
            layout: LAYOUT,
            layers: layers.map(|layer| layer.name).collect(),
            language,
            tools,
            machine: machine.filter_map(identity).collect(),
            job,
        }
    }

    pub(in crate::runner) fn key(&self) -> Key {
        let Ingredients { owner, architecture, layout, layers, language, tools, machine, job } =
            self;
        // Named one by one: a new field has to be thought of here.
        let Job {
            command,
            env,
            mounts,
            files,
            // What a tool chain makes once: of its content language and tools tell.
            program,
            collect: _,
            collects_cache: _,
            take: _,
            stdin,
            tty: _,
            followed: _,
            // A compile step is started when it is there.
            ahead: _,
            caps,
        } = job;
        let mut encoder = Encoder(blake3::Hasher::new());
        encoder.bytes(owner.0.as_bytes());
        encoder.bytes(architecture.as_bytes());
        encoder.json(layout);
        encoder.json(layers);
        encoder.json(language);
        encoder.json(&(tools, machine));
        encoder.json(&(command, env, mounts, program.is_some(), caps));
        encoder.bytes(stdin);
        let mut files: Vec<_> = files.iter().map(|file| (&file.path, &file.content)).collect();
        files.sort_unstable_by(|(one, a), (other, b)| (one, &a[..]).cmp(&(other, &b[..])));
        encoder.json(&files.len());
        for (path, content) in files {
            encoder.bytes(path.as_bytes());
            encoder.bytes(content);
        }
        encoder.0.finalize()
    }
}

fn identity(path: &Path) -> Option<ToolIdentity> {
    let data = path.metadata().ok()?;
    let modified_ns = i128::from(data.mtime()) * 1_000_000_000 + i128::from(data.mtime_nsec());
    Some(ToolIdentity { path: path.to_owned(), size: data.size(), modified_ns })
}

struct Encoder(blake3::Hasher);

impl Encoder {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    }

    /// JSON of these is canonical: structs have one order, and maps are sorted.
    fn json(&mut self, value: &impl Serialize) {
        self.bytes(&serde_json::to_vec(value).expect("no map with keys other than text"));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::{
        language::Catalog,
        sandbox::{Caps, JailFile},
        submission::Blob,
    };

    fn language() -> LanguageDefinition {
        (*Catalog::load(None).unwrap().get("c").unwrap().definition).clone()
    }

    fn tool() -> ToolIdentity {
        ToolIdentity { path: "/usr/bin/gcc".into(), size: 1, modified_ns: 2 }
    }

    fn file(path: &str, content: &str) -> JailFile {
        JailFile { path: path.to_owned(), content: content.into() }
    }

    fn job() -> Job {
        Job {
            command: ["/usr/bin/gcc", "-o", "/out/program", "main.c"].map(str::to_owned).into(),
            env: vec![("A".to_owned(), "1".to_owned())],
            mounts: vec!["/opt/more".into()],
            files: vec![file("main.c", "int main(void) {}"), file("more.h", "")],
            caps: Caps { memory_bytes: 1, ..Caps::default() },
            ..Job::default()
        }
    }

    /// The key of these ingredients after a change of one of them, which `job` is apart from.
    fn key(job: &Job, change: impl FnOnce(&mut Ingredients<'_>)) -> Key {
        let (owner, language) = (CacheOwner("owner".to_owned()), language());
        let mut ingredients = Ingredients {
            owner: &owner,
            architecture: "x86_64",
            layout: 1,
            layers: vec!["seccomp".to_owned(), "cgroup".to_owned()],
            language: &language,
            tools: vec![tool()],
            machine: vec![ToolIdentity { path: "/etc/ld.so.cache".into(), ..tool() }],
            job,
        };
        change(&mut ingredients);
        ingredients.key()
    }

    fn key_of(change: impl FnOnce(&mut Job)) -> Key {
        let mut job = job();
        change(&mut job);
        key(&job, |_| ())
    }

    #[test]
    fn each_ingredient_makes_another_key() {
        let mut renamed = language();
        renamed.run.command.push("-x".to_owned());
        // They live as long as any ingredients might.
        let renamed: &'static LanguageDefinition = Box::leak(Box::new(renamed));
        let other: &'static CacheOwner = Box::leak(Box::new(CacheOwner("other".to_owned())));
        let job = &job();
        let with = |tool| key(job, |all| all.tools = vec![tool]);
        let keys = [
            key(job, |_| ()),
            key(job, |all| all.owner = other),
            key(job, |all| all.architecture = "aarch64"),
            key(job, |all| all.layout = 2),
            key(job, |all| drop(all.layers.pop())),
            key(job, |all| all.language = renamed),
            with(ToolIdentity { path: "/usr/local/bin/gcc".into(), ..tool() }),
            with(ToolIdentity { size: 2, ..tool() }),
            with(ToolIdentity { modified_ns: 3, ..tool() }),
            key(job, |all| all.tools.push(tool())),
            key(job, |all| all.machine[0].modified_ns += 1),
            key(job, |all| drop(all.machine.pop())),
            // An argument for the compiler, and another order of them.
            key_of(|job| job.command.push("-O0".to_owned())),
            key_of(|job| job.command.swap(1, 3)),
            key_of(|job| job.env[0].1 = "2".to_owned()),
            key_of(|job| job.mounts.clear()),
            key_of(|job| job.files[0].content = "int main(void) { }".into()),
            key_of(|job| job.files[0].path = "other.c".to_owned()),
            key_of(|job| drop(job.files.pop())),
            // The same bytes, cut elsewhere.
            key_of(|job| job.files = vec![file("main.cint main(void) {}", ""), file("more.h", "")]),
            key_of(|job| job.program = Some("/data/caches/c".into())),
            key_of(|job| job.stdin = Blob::from("x")),
            key_of(|job| job.caps.memory_bytes = 2),
        ];
        assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len(), "{keys:?}");
    }

    #[test]
    fn neither_the_order_of_files_nor_what_a_compile_does_not_see_makes_another() {
        let same = key(&job(), |_| ());
        assert_eq!(same, key_of(|job| job.files.reverse()));
        assert_eq!(same, key_of(|job| job.collect = Some("/data/programs/program-1-1".into())));
        assert_eq!(same, key_of(|job| job.followed = true));
    }

    #[test]
    fn what_the_compiler_is_told_of_their_order_does() {
        // In C++ the order of translation units is that of their static initializers.
        let in_order = key_of(|job| job.command.extend(["a.cpp", "b.cpp"].map(str::to_owned)));
        let turned = key_of(|job| job.command.extend(["b.cpp", "a.cpp"].map(str::to_owned)));
        assert_ne!(in_order, turned);
    }
}
