//! The files of the web application, from the binary.

mod files {
    include!(concat!(env!("OUT_DIR"), "/files.rs"));
}

/// Served where the application was not built into the binary.
const NO_APPLICATION: &str = "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>idm</title>\n\
                              <h1>idm Manager</h1>\n<p>This binary was built without the web application. The API is \
                              at <code>/api/v1</code>.</p>\n</html>\n";

/// A file to serve.
pub(crate) struct Asset {
    pub(crate) content: &'static [u8],
    pub(crate) media_type: &'static str,
    /// Its name has a hash of its content, so that it may be kept for ever.
    pub(crate) is_immutable: bool,
}

/// The file at a path. All files are in one folder, so a path with a dot and no folder is one; all others are pages of
/// the application, which finds its way from `index.html`. No page begins with a dot.
pub(crate) fn find(path: &str) -> Option<Asset> {
    let name = path.trim_start_matches('/');
    let is_page = !name.contains('.') || name.contains('/') && !name.starts_with('.');
    let name = if is_page { "index.html" } else { name };
    let found = files::FILES.iter().find(|(known, _)| *known == name).map(|(_, content)| *content);
    let content = match found {
        Some(content) => content,
        None if name == "index.html" => NO_APPLICATION.as_bytes(),
        None => return None,
    };
    Some(Asset { content, media_type: media_type(name), is_immutable: is_hashed(name) })
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "json" | "map" => "application/json",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// `name-HASH.js` or `name.HASH.js`, as bundlers write it.
fn is_hashed(name: &str) -> bool {
    let stem = name.rsplit('/').next().unwrap_or_default().rsplit_once('.').map_or("", |(stem, _)| stem);
    let hash = stem.rsplit(['-', '.']).next().unwrap_or_default();
    let is_hash = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    hash.len() >= 8 && hash.len() < stem.len() && hash.bytes().all(is_hash) && name != "index.html"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_the_application_and_other_names_are_files_or_nothing() {
        for page in ["/", "/credentials", "/credentials/shop/batch", "/credentials/shop/batch.v2"] {
            let page = find(page).expect("a page");
            assert!(page.media_type.starts_with("text/html") && !page.is_immutable);
        }
        assert!(find("/nothing.js").is_none() && find("/../Cargo.toml").is_none());
    }

    #[test]
    fn only_names_with_a_hash_are_kept_for_ever() {
        assert!(is_hashed("assets/index-8f3a9b2c.js") && is_hashed("app.8f3a9b2c.css"));
        assert!(!is_hashed("index.html") && !is_hashed("favicon.svg") && !is_hashed("8f3a9b2c.js"));
    }
}
