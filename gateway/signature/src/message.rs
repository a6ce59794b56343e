use http::HeaderMap;

/// A request as it is forwarded: what is verified is what the upstream gets.
#[derive(Clone, Copy, Debug)]
pub struct Message<'m> {
    /// The method.
    pub method: &'m str,
    /// Whether the caller uses https.
    pub https: bool,
    /// The host in lower case, with the port that the caller named.
    pub authority: &'m str,
    /// The path in its canonical spelling.
    pub path: &'m str,
    /// The query, without `?`.
    pub query: Option<&'m str>,
    /// The headers that the gateway did not remove.
    pub headers: &'m HeaderMap,
}

impl<'m> Message<'m> {
    /// `http` or `https`.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }

    /// The authority without the port that its scheme has anyhow (RFC 9421 §2.2.3).
    pub(crate) fn normal_authority(&self) -> &'m str {
        let usual = if self.https { ":443" } else { ":80" };
        self.authority.strip_suffix(usual).unwrap_or(self.authority)
    }

    /// `?` and the query, which is empty where there is none (RFC 9421 §2.2.7).
    pub(crate) fn marked_query(&self) -> String {
        format!("?{}", self.query.unwrap_or_default())
    }
}
