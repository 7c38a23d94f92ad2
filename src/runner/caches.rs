//! What a language's tool chain needs made once, and every compile step is shown read-only: for Go its
//! compiled standard library. One folder for each definition with its tools, made in a jail. Several
//! processes may share them: a machine's workers and runners.

use std::{
    fs::{File, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::unistd::geteuid;

use super::{
    caps,
    jail::Jail,
    program::environment,
    verdict::{Evidence, judge},
};
use crate::{
    language::{LanguageDefinition, ToolChain, Values},
    sandbox::{JailFile, Job, SandboxError},
    submission::{Blob, Clock as _, SystemClock, Timestamp, Verdict},
};

/// What the name of a folder that is not complete ends with, after a dot.
const UNFINISHED: &str = "new";

/// The file that is locked while a cache is made.
const LOCK: &str = "lock";

/// How old a cache that was made with other tools must be to go: another process, of another version of
/// braindrill, may use it beside us.
const OUTDATED: Duration = Duration::from_secs(7 * 24 * 3600);

/// Where processes on a machine share caches, other than in a daemon's data folder: workers, and the
/// runners of a Nomad node. The folder that was named, else this user's, else, for a user without a home,
/// one in `own` that nobody shares.
pub fn machine_cache_dir(named: Option<PathBuf>, own: &Path) -> PathBuf {
    named.or_else(users_cache_dir).unwrap_or_else(|| own.join("caches"))
}

fn users_cache_dir() -> Option<PathBuf> {
    if geteuid().is_root() {
        return Some(PathBuf::from("/var/cache/braindrill"));
    }
    let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let own = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?;
    Some(own.join("braindrill"))
}

/// Where the caches of an engine are.
#[derive(Debug)]
pub(super) struct Caches {
    path: PathBuf,
}

/// Why there is no cache.
#[derive(Debug, thiserror::Error)]
pub(super) enum CacheError {
    #[error("cancelled")]
    Cancelled,
    /// In a sentence. Compiling works without, and takes longer.
    #[error("{0}")]
    NotMade(String),
}

impl Caches {
    /// Nothing is made before it is needed.
    pub(super) fn at(path: PathBuf) -> Caches {
        Caches { path }
    }

    /// The cache of a language with these tools, where it has been made.
    pub(super) fn find(&self, language: &LanguageDefinition, tools: &ToolChain) -> Option<PathBuf> {
        language.cache.as_ref()?;
        let place = Some(self.place(language, tools)).filter(|place| place.is_dir())?;
        // Whoever could write here would write what others' programs are linked with.
        if is_ours_alone(&self.path) {
            return Some(place);
        }
        tracing::warn!(
            folder = %self.path.display(),
            "not used: it belongs to another user, or others may write to it"
        );
        None
    }

    /// Whether one is to be made.
    pub(super) fn is_missing(&self, language: &LanguageDefinition, tools: &ToolChain) -> bool {
        language.cache.is_some() && self.find(language, tools).is_none()
    }

    fn place(&self, language: &LanguageDefinition, tools: &ToolChain) -> PathBuf {
        let identity = (language, tools.identity());
        let bytes = serde_json::to_vec(&identity).expect("strings and numbers alone");
        let digest = blake3::hash(&bytes).to_hex();
        self.path.join(format!("{}-{}", language.id, &digest[..16]))
    }

    /// Makes the cache of a language, and removes what was made of it with other tools.
    pub(super) async fn make(
        &self,
        language: &LanguageDefinition,
        tools: &ToolChain,
        jail: Jail<'_>,
    ) -> Result<(), CacheError> {
        let place = self.place(language, tools);
        let unfinished = place.with_extension(UNFINISHED);
        let on_disk =
            |error: io::Error| CacheError::NotMade(format!("{}: {error}", self.path.display()));
        let folder = || std::fs::DirBuilder::new();
        folder().recursive(true).mode(0o700).create(&self.path).map_err(on_disk)?;
        if !is_ours_alone(&self.path) {
            let reason = "belongs to another user, or others may write to it";
            return Err(CacheError::NotMade(format!("{} {reason}", self.path.display())));
        }
        let _lock = self.lock()?;
        if self.find(language, tools).is_some() {
            return Ok(());
        }
        self.remove_outdated(language).map_err(on_disk)?;
        folder().create(&unfinished).map_err(on_disk)?;
        // Whatever the umask is: the jail's user has to read it.
        std::fs::set_permissions(&unfinished, std::fs::Permissions::from_mode(0o755))
            .map_err(on_disk)?;
        let made = match job(language, tools, &unfinished) {
            Ok(job) => run(language, job, jail).await,
            Err(error) => Err(CacheError::NotMade(error.to_string())),
        };
        match made {
            Ok(()) => std::fs::rename(&unfinished, &place).map_err(on_disk),
            Err(error) => {
                // What stays is removed before the next is made.
                let _ = std::fs::remove_dir_all(&unfinished);
                Err(error)
            }
        }
    }

    /// Keeps others from making a cache here, until dropped.
    fn lock(&self) -> Result<File, CacheError> {
        let path = self.path.join(LOCK);
        let file = File::options().create(true).append(true).open(&path);
        let locked = file.map_err(TryLockError::Error).and_then(|file| {
            file.try_lock()?;
            Ok(file)
        });
        locked.map_err(|error| match error {
            TryLockError::WouldBlock => {
                CacheError::NotMade("another process is making one".to_owned())
            }
            TryLockError::Error(error) => {
                CacheError::NotMade(format!("{}: {error}", path.display()))
            }
        })
    }

    /// Removes what was made of a language long ago, or never completed. The lock is held.
    fn remove_outdated(&self, language: &LanguageDefinition) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            // An id may hold a hyphen too: the last one ends it.
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| Some(name.rsplit_once('-')?.0));
            let modified = Timestamp::from_millis(entry.metadata()?.mtime() * 1000);
            let age = SystemClock.now().since(modified);
            let is_unfinished = entry.path().extension().is_some_and(|end| end == UNFINISHED);
            if id == Some(&language.id) && (is_unfinished || age > OUTDATED) {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }
}

/// Whether nobody but this user can have put there what is in a folder.
fn is_ours_alone(folder: &Path) -> bool {
    // Of the entry itself, not of what a link names.
    folder.symlink_metadata().is_ok_and(|metadata| {
        metadata.is_dir() && metadata.uid() == geteuid().as_raw() && metadata.mode() & 0o022 == 0
    })
}

fn job(
    language: &LanguageDefinition,
    tools: &ToolChain,
    folder: &Path,
) -> Result<Job, crate::language::UnknownPlaceholder> {
    let caps = caps::of_cache(language);
    let step = language.cache.as_ref();
    let values = Values {
        tools: &tools.tools,
        entrypoint: &language.source_file,
        sources: &[],
        args: &[],
        compile_args: &[],
        memory_bytes: caps.memory_bytes,
        has_cache: false,
    };
    let files = step.into_iter().flat_map(|step| &step.files);
    let files = files
        .map(|(name, content)| JailFile { path: name.clone(), content: content.as_str().into() });
    let none = Default::default();
    let own = step.map_or(&none, |step| &step.env);
    let compile = language.compile.as_ref().map_or(&none, |step| &step.env);
    Ok(Job {
        command: step.map_or(Ok(Vec::new()), |step| values.words(&step.command))?,
        env: environment(&values, &[&language.env, compile, own], &none)?,
        mounts: language.mounts.clone(),
        files: files.collect(),
        program: None,
        collect: Some(folder.to_owned()),
        collects_cache: true,
        take: Vec::new(),
        stdin: Blob::default(),
        tty: false,
        followed: true,
        ahead: None,
        caps,
    })
}

async fn run(language: &LanguageDefinition, job: Job, jail: Jail<'_>) -> Result<(), CacheError> {
    let caps = job.caps;
    let (measured, written) = jail.run_whole(job).await.map_err(|error| match error {
        SandboxError::Cancelled => CacheError::Cancelled,
        error => CacheError::NotMade(error.to_string()),
    })?;
    let stderr_tail = &written.stderr;
    let judgement =
        judge(&Evidence { measured: &measured, caps: &caps, language, stderr_tail }, None);
    if judgement.verdict == Verdict::Accepted {
        return Ok(());
    }
    let said = String::from_utf8_lossy(stderr_tail);
    Err(CacheError::NotMade(format!("{}: {}", judgement.reason, said.trim())))
}
