//! A disk that is soon full, without the right to mount one: a tmpfs in a mount namespace of its own, which a user
//! namespace gives to anybody. A small shell holds it, as long as its owner lives; a program that is to see the disk is
//! started inside.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, ensure};

/// Mounts, says so, and waits for the end of the pipe. Whoever comes last, this shell or the server's, removes the folder.
const HOLDER: &str = r#"
mount -t tmpfs -o "size=$2m,mode=0700" tmpfs "$1" && echo mounted
read -r word
umount -l "$1" 2>/dev/null
rmdir "$1" "${1%/*}" 2>/dev/null
"#;

const REFUSED: &str = "no disk of its own could be mounted for a test: this system gives nobody a user namespace. Where \
                       `sysctl kernel.apparmor_restrict_unprivileged_userns` is 1 set it to 0; in a container allow unshare \
                       and mount";

#[derive(Debug)]
pub(crate) struct SmallDisk {
    path: PathBuf,
    holder: Child,
    uid: u32,
    gid: u32,
}

impl SmallDisk {
    /// `command` makes a command of who is to own the disk, with these ids. `path` is an empty directory of theirs; who looks
    /// from outside goes on seeing that.
    pub fn mount(path: PathBuf, mib: u32, ids: (u32, u32), command: impl Fn(&Path) -> Command) -> anyhow::Result<Self> {
        let mut unshare = command(Path::new("unshare"));
        unshare.args(["--user", "--map-root-user", "--mount", "sh", "-c", HOLDER, "holder"]).arg(&path);
        unshare.arg(mib.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut holder = unshare.spawn().context("run unshare")?;
        let mut said = String::new();
        let stdout = holder.stdout.take().context("the holder's words")?;
        BufReader::new(stdout).read_line(&mut said).context("hear of the holder")?;
        let (uid, gid) = ids;
        let disk = Self { path, holder, uid, gid };
        ensure!(said.trim() == "mounted", REFUSED);
        Ok(disk)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What stands before a program that is to see the disk, as who it is outside: its owner is root in there, which servers
    /// refuse to be.
    pub fn inside(&self) -> Vec<String> {
        let Self { holder, uid, gid, .. } = self;
        let words = format!(
            "nsenter --target {} --user --mount --preserve-credentials -- unshare --user --map-user={uid} --map-group={gid} --",
            holder.id()
        );
        words.split(' ').map(str::to_owned).collect()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        // it may never have been there
        let _ = self.holder.wait();
    }
}
