//! Ports for the programs of a test that are told where to listen before they run.
//!
//! A port that the system chose and that was given back may be handed out again at once, to a connection or to another
//! test. These ports lie below those that Linux hands out by itself (32768 and above), and each is locked in a file for
//! as long as the test's process lives, so that no other test is given it.

use std::fs::{File, OpenOptions};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Mutex;

const FIRST: u16 = 20_000;
const COUNT: u16 = 10_000;

/// The locks of the ports that this process was given.
static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port on loopback that nothing listens on and that no other test is given while this process lives.
pub fn free_port() -> u16 {
    // Each user has a folder, because one cannot open the files of another.
    let user = std::fs::metadata("/proc/self").expect("a process").uid();
    let folder = std::env::temp_dir().join(format!("idm-test-ports-{user}"));
    std::fs::create_dir_all(&folder).expect("a folder for locks");
    let mut held = HELD.lock().expect("no panic inside");
    // Tests that run side by side begin at different places.
    let start = u16::try_from(std::process::id() % u32::from(COUNT)).expect("below the count");
    for step in 0..COUNT {
        let port = FIRST + (start + step) % COUNT;
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join(port.to_string()));
        let file = file.expect("a lock's file");
        if file.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            held.push(file);
            return port;
        }
    }
    panic!("no port of {FIRST} to {} is free", FIRST + COUNT - 1)
}

/// An address with such a port.
pub fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_once_and_is_none_of_the_systems() {
        let ports: std::collections::BTreeSet<u16> = (0..50).map(|_| free_port()).collect();
        assert_eq!(ports.len(), 50);
        for port in ports {
            assert!((FIRST..FIRST + COUNT).contains(&port));
            let listener = TcpListener::bind(("127.0.0.1", port)).expect("nothing listens on it");
            drop(listener);
        }
    }

    #[test]
    fn a_port_that_something_listens_on_is_not_given() {
        let taken = TcpListener::bind(("127.0.0.1", free_port())).expect("a listener");
        let port = taken.local_addr().expect("an address").port();
        assert!((0..20).all(|_| free_port() != port));
    }
}
