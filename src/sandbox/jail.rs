//! The file tree of a jail: built by the helper in a mount namespace of its own.
//!
//! In three steps: [`prepare`] makes what every jail has, before its job is known; [`furnish`] adds
//! what the job wants; [`close`] takes the host's tree away. A change of what a compile step sees there
//! raises `LAYOUT` in `runner/compile_cache/key.rs`: programs are kept that were compiled before it.

use std::{
    ffi::CString,
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown, symlink},
    },
    path::{Component, Path, PathBuf},
};

use nix::{
    libc,
    mount::{MntFlags, MsFlags, mount, umount2},
    unistd::{chdir, pivot_root},
};

use super::{
    handover, sys,
    wire::{Order, Shown},
};

/// Where the host's tree stays visible while the jail's is built.
const HOST: &str = "/.host";
/// Where the writable tmpfs is made before its folders are bound to their places.
const WORK: &str = "/.work";
/// Where a compiled program is.
pub(super) const PROGRAM: &str = "/program";
/// A folder that every machine has, to hang the new root on.
const ANCHOR: &str = "/tmp";

/// Shown in every jail where the host has it. Links stay links.
const BASE: &[&str] = &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
/// The same, single files and folders of /etc: what the dynamic linker and Debian's links need.
const BASE_ETC: &[&str] = &["/etc/ld.so.cache", "/etc/alternatives"];

const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom"];
const DEVICE_LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

const HOSTS: &str = "127.0.0.1 localhost sandbox\n::1 localhost\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files\n";

/// An error with the step it happened at.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {source}")]
pub(super) struct JailError {
    step: String,
    source: io::Error,
}

trait At<T> {
    fn at(self, step: impl Into<String>) -> Result<T, JailError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, step: impl Into<String>) -> Result<T, JailError> {
        self.map_err(|error| JailError { step: step.into(), source: error.into() })
    }
}

/// Builds what every jail has but /proc, which only a process inside the pid namespace can mount, and
/// leaves the host visible for it (a user namespace may mount a /proc only where it sees one).
///
/// `seen_as` is the uid and gid that the program sees itself as.
pub(super) fn prepare(seen_as: u32) -> Result<(), JailError> {
    // Links are followed now, while absolute ones still mean the host's tree.
    let (links, folders): (Vec<&str>, Vec<&str>) =
        BASE.iter().partition(|path| Path::new(path).is_symlink());
    let shown: Vec<Shown> =
        folders.iter().chain(BASE_ETC).filter_map(|path| Shown::find(Path::new(path))).collect();
    let links: Vec<(&str, PathBuf)> =
        links.iter().filter_map(|path| Some((*path, fs::read_link(path).ok()?))).collect();

    enter_root()?;
    for (path, target) in links {
        symlink(&target, path).at(format!("link {path}"))?;
    }
    for name in ["/etc", "/dev", "/proc", "/box", "/tmp", PROGRAM] {
        DirBuilder::new().mode(0o755).create(name).at(format!("make {name}"))?;
    }
    shown.iter().try_for_each(show)?;
    let passwd = format!(
        "sandbox:x:{seen_as}:{seen_as}:sandbox:/box:/usr/bin/bash\n\
         nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    );
    let group = format!("sandbox:x:{seen_as}:\nnogroup:x:65534:\n");
    for (name, text) in [
        ("/etc/passwd", passwd.as_str()),
        ("/etc/group", group.as_str()),
        ("/etc/hosts", HOSTS),
        ("/etc/nsswitch.conf", NSSWITCH),
    ] {
        fs::write(name, text).at(format!("write {name}"))?;
    }
    devices()
}

/// Adds what one job wants. `uid` is what its program's files belong to, as seen from here.
pub(super) fn furnish(order: &Order, contents: &[Vec<u8>], uid: u32) -> Result<(), JailError> {
    order.mounts.iter().try_for_each(show)?;
    work_directories(order, uid)?;
    write_files(&order.files, contents, Path::new("/box"), Some(uid), 0o644)?;
    if order.tty {
        device("tty")?;
    }
    if let Some(awaited) = &order.awaited {
        if awaited.starts_with(PROGRAM) {
            room_for_a_program()?;
        }
        handover::make_fifo(awaited, uid).at("make a FIFO")?;
    }
    if let Some(program) = &order.program {
        bind(program, Path::new(PROGRAM))?;
        close_program()?;
    }
    Ok(())
}

/// A folder of its own in the place of a program that will be written there.
fn room_for_a_program() -> Result<(), JailError> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let options = Some("size=2m,nr_inodes=1024,mode=755");
    mount(Some("tmpfs"), PROGRAM, Some("tmpfs"), flags, options)
        .at("mount a folder for the program")
}

/// Makes the program's folder read-only.
pub(super) fn close_program() -> Result<(), JailError> {
    read_only(Path::new(PROGRAM))
}

/// Takes the host's tree away and makes the root read-only.
pub(super) fn close() -> Result<(), JailError> {
    umount2(HOST, MntFlags::MNT_DETACH).at("detach the host")?;
    fs::remove_dir(HOST).at("remove the host's folder")?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).at("make mounts private")?;
    let flags = MsFlags::MS_REMOUNT
        | MsFlags::MS_BIND
        | MsFlags::MS_RDONLY
        | MsFlags::MS_NOSUID
        | MsFlags::MS_NODEV;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).at("make the root read-only")
}

fn enter_root() -> Result<(), JailError> {
    // Ours do not reach the host, but the host's reach us until the jail is closed: a prepared jail
    // may wait for days, and must neither miss a disk nor keep one from being taken away.
    let slave = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    mount(None::<&str>, "/", None::<&str>, slave, None::<&str>).at("cut mounts off")?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let options = Some("size=1m,nr_inodes=4096,mode=755");
    mount(Some("tmpfs"), ANCHOR, Some("tmpfs"), flags, options).at("mount the root")?;
    let host = format!("{ANCHOR}{HOST}");
    fs::create_dir(&host).at("make the host's folder")?;
    pivot_root(ANCHOR, host.as_str()).at("pivot_root")?;
    chdir("/").at("enter the root")
}

/// Where a path of the host is, as long as the jail is not closed.
pub(super) fn on_host(path: &Path) -> PathBuf {
    Path::new(HOST).join(path.strip_prefix("/").unwrap_or(path))
}

/// Binds it read-only.
fn show(Shown { source, target }: &Shown) -> Result<(), JailError> {
    if target.symlink_metadata().is_ok() {
        return Ok(()); // lies in something that is shown already
    }
    let parent = target.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o755).create(parent).at("make a folder")?;
    if on_host(source).is_dir() {
        fs::create_dir(target).at("make a folder")?;
    } else {
        fs::File::create(target).at("make a file")?;
    }
    bind(source, target)?;
    read_only(target)
}

fn bind(source: &Path, target: &Path) -> Result<(), JailError> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(&on_host(source)), target, None::<&str>, flags, None::<&str>)
        .at(format!("bind {}", target.display()))
}

fn read_only(target: &Path) -> Result<(), JailError> {
    let attributes = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    let path = CString::new(target.as_os_str().as_bytes()).at("a path")?;
    sys::set_mount_attributes(&path, attributes).at(format!("protect {}", target.display()))
}

fn devices() -> Result<(), JailError> {
    DEVICES.iter().try_for_each(|name| device(name))?;
    for (name, target) in DEVICE_LINKS {
        symlink(target, format!("/dev/{name}")).at("link a device")?;
    }
    fs::create_dir("/dev/shm").at("make /dev/shm")
}

fn device(name: &str) -> Result<(), JailError> {
    let target = PathBuf::from(format!("/dev/{name}"));
    fs::File::create(&target).at("make a device")?;
    bind(&target, &target)
}

/// /box, /tmp, /dev/shm and, where something is to be collected, /out: one tmpfs, one size.
fn work_directories(order: &Order, uid: u32) -> Result<(), JailError> {
    fs::create_dir(WORK).at("make the work folder")?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let options =
        format!("size={},nr_inodes={},mode=755", order.caps.disk_bytes, order.caps.inodes);
    mount(Some("tmpfs"), WORK, Some("tmpfs"), flags, Some(options.as_str()))
        .at("mount the work folder")?;
    let mut places = vec![("/box", 0o755), ("/tmp", 0o1777), ("/dev/shm", 0o1777)];
    if order.collect.is_some() {
        fs::create_dir("/out").at("make /out")?;
        places.push(("/out", 0o755));
    }
    for (place, mode) in places {
        let folder = format!("{WORK}/{}", place.rsplit('/').next().unwrap_or(place));
        fs::create_dir(&folder).at("make a work folder")?;
        fs::set_permissions(&folder, Permissions::from_mode(mode)).at("open a work folder")?;
        chown(&folder, Some(uid), Some(uid)).at("give a work folder away")?;
        mount(Some(folder.as_str()), place, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .at("bind a work folder")?;
    }
    umount2(WORK, MntFlags::MNT_DETACH).at("detach the work folder")?;
    fs::remove_dir(WORK).at("remove the work folder")
}

/// Puts the files into the folder `work`, gives them to `owner`, and this mode. Nothing has run there yet, so no
/// path can be a trap.
pub(super) fn write_files(
    files: &[(String, u64)],
    contents: &[Vec<u8>],
    work: &Path,
    owner: Option<u32>,
    mode: u32,
) -> Result<(), JailError> {
    for ((path, _), content) in files.iter().zip(contents) {
        let relative = Path::new(path);
        if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(io::Error::from(io::ErrorKind::InvalidInput)).at("a file's path");
        }
        let mut folder = work.to_owned();
        for part in relative.parent().into_iter().flat_map(Path::components) {
            folder.push(part);
            match fs::create_dir(&folder) {
                Ok(()) => chown(&folder, owner, owner).at("give a folder away")?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).at("make a folder for a file"),
            }
        }
        let target = work.join(relative);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&target)
            .at("make a file")?;
        file.write_all(content).at("write a file")?;
        chown(&target, owner, owner).at("give a file away")?;
    }
    Ok(())
}
