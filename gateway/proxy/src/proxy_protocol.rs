//! The header of the PROXY protocol, versions 1 and 2, that a connection of a trusted proxy begins with.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// The beginning of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// `PROXY UNKNOWN\r\n`, the shortest header of version 1: no more than this is read before the version is known.
const SHORTEST: usize = 15;
/// The longest line of version 1.
const LONGEST_LINE: usize = 107;
/// Addresses and extensions of version 2 may be this long; HAProxy writes some hundred bytes.
const LONGEST_BLOCK: usize = 4096;

/// Reads the header and nothing behind it. `None`: the proxy speaks for itself, or does not tell for whom.
pub(crate) async fn read(stream: &mut TcpStream) -> io::Result<Option<IpAddr>> {
    let mut start = [0; SHORTEST];
    stream.read_exact(&mut start).await?;
    if start.starts_with(SIGNATURE) {
        let last = stream.read_u8().await?;
        let [.., command, family, high] = start;
        let mut block = vec![0; usize::from(u16::from_be_bytes([high, last]))];
        if block.len() > LONGEST_BLOCK {
            return Err(malformed());
        }
        stream.read_exact(&mut block).await?;
        return second(command, family, &block).ok_or_else(malformed);
    }
    if !start.starts_with(b"PROXY ") {
        return Err(malformed());
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\n") {
        let mut ahead = [0; LONGEST_LINE - SHORTEST];
        let room = ahead.get_mut(..LONGEST_LINE.saturating_sub(line.len())).filter(|room| !room.is_empty());
        let room = room.ok_or_else(malformed)?;
        let seen = stream.peek(room).await?;
        let seen = room.get(..seen).filter(|seen| !seen.is_empty()).ok_or(io::ErrorKind::UnexpectedEof)?;
        let taken = seen.iter().position(|byte| *byte == b'\n').map_or(seen.len(), |end| end + 1);
        let kept = line.len();
        line.resize(kept + taken, 0);
        stream.read_exact(line.get_mut(kept..).unwrap_or_default()).await?;
    }
    first(&line).ok_or_else(malformed)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the connection does not begin with a header of the PROXY protocol")
}

/// The client in a line of version 1; the outer `None` where the line is malformed.
fn first(line: &[u8]) -> Option<Option<IpAddr>> {
    let line = std::str::from_utf8(line.strip_suffix(b"\r\n")?).ok()?;
    let rest = line.strip_prefix("PROXY ")?;
    // The bytes behind it are to be ignored.
    if rest == "UNKNOWN" || rest.starts_with("UNKNOWN ") {
        return Some(None);
    }
    let words: Vec<&str> = rest.split(' ').collect();
    let [family, from, to, from_port, to_port] = words.as_slice() else { return None };
    let ports_are_right = [from_port, to_port]
        .iter()
        .all(|port| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok());
    let client: IpAddr = match *family {
        "TCP4" => to.parse::<Ipv4Addr>().and_then(|_| from.parse::<Ipv4Addr>()).ok()?.into(),
        "TCP6" => to.parse::<Ipv6Addr>().and_then(|_| from.parse::<Ipv6Addr>()).ok()?.into(),
        _ => return None,
    };
    ports_are_right.then_some(Some(client))
}

/// The client in a header of version 2; the outer `None` where it is malformed. Extensions behind the addresses are not
/// read.
fn second(command: u8, family: u8, block: &[u8]) -> Option<Option<IpAddr>> {
    match command {
        0x20 => return Some(None),
        0x21 => {}
        _ => return None,
    }
    match family {
        0x11 => {
            let address: [u8; 4] = block.get(..12)?.first_chunk().copied()?;
            Some(Some(Ipv4Addr::from(address).into()))
        }
        0x21 => {
            let address: [u8; 16] = block.get(..36)?.first_chunk().copied()?;
            Some(Some(Ipv6Addr::from(address).into()))
        }
        // Unspecified, or a socket of the proxy's machine.
        0x00 | 0x31 => Some(None),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_version_1() {
        let client = |text: &str| first(text.as_bytes()).map(|client| client.map(|client| client.to_string()));
        assert_eq!(client("PROXY TCP4 203.0.113.7 10.0.0.1 1 65535\r\n"), Some(Some("203.0.113.7".into())));
        assert_eq!(client("PROXY TCP6 2001:db8::7 ::1 4711 80\r\n"), Some(Some("2001:db8::7".into())));
        assert_eq!(client("PROXY UNKNOWN\r\n"), Some(None));
        assert_eq!(client("PROXY UNKNOWN ff ff 1 2\r\n"), Some(None));
        for line in [
            "PROXY TCP4 203.0.113.7 10.0.0.1 1 65536\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 1 +2\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 1  2\r\n",
            "PROXY TCP4 2001:db8::7 ::1 1 2\r\n",
            "PROXY TCP6 203.0.113.7 10.0.0.1 1 2\r\n",
            "PROXY UDP4 203.0.113.7 10.0.0.1 1 2\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 1 2\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY TCP4 203.0.113.07 10.0.0.1 1 2\r\n",
        ] {
            assert_eq!(client(line), None, "{line:?}");
        }
    }

    #[test]
    fn blocks_of_version_2() {
        let v4 = [203, 0, 113, 7, 10, 0, 0, 1, 0, 80, 0, 81];
        let client: IpAddr = "203.0.113.7".parse().unwrap();
        assert_eq!(second(0x21, 0x11, &v4), Some(Some(client)));
        assert_eq!(second(0x21, 0x11, &[&v4[..], &[4, 0, 1, 0]].concat()), Some(Some(client)));
        assert_eq!(second(0x21, 0x11, &v4[..11]), None);
        assert_eq!(second(0x20, 0x00, &[]), Some(None));
        assert_eq!(second(0x21, 0x31, &[0; 216]), Some(None));
        assert_eq!(second(0x21, 0x21, &[0; 35]), None);
        assert_eq!(second(0x21, 0x12, &v4), None, "no datagrams");
        assert_eq!(second(0x22, 0x11, &v4), None, "no such command");
        assert_eq!(second(0x11, 0x11, &v4), None, "no such version");
    }
}
