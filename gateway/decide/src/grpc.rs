use http::{HeaderMap, header};

/// Whether a request is a call of gRPC, by its one content type: `application/grpc`, alone or with the coding of its
/// messages. gRPC-Web is another protocol.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let mut kinds = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(kind), None) = (kinds.next(), kinds.next()) else { return false };
    let rest = kind.as_bytes().strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_of_grpc_is_known_by_its_one_content_type() {
        let is = |kinds: &[&str]| {
            is_grpc(&HeaderMap::from_iter(kinds.iter().map(|kind| (header::CONTENT_TYPE, kind.parse().unwrap()))))
        };
        assert!(is(&["application/grpc"]) && is(&["application/grpc+proto"]) && is(&["application/grpc;x=y"]));
        for kinds in [
            &[][..],
            &["application/grpc-web"],
            &["application/grpcx"],
            &["text/plain"],
            &["application/grpc", "application/grpc"],
        ] {
            assert!(!is(kinds), "{kinds:?}");
        }
    }
}
