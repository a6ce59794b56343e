//! Pages for people: they need no script, load nothing from other hosts, and are accessible.

use std::fmt::Write;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use idm_authn::{ArmedDirectory, ArmedSignIn, LoginForm, navigates, sends_form};
use idm_plan::{Pages, SignInEndpoint};
use idm_request::RequestView;
use idm_types::{DecisionId, Reason, is_hidden, visible};
use url::{Position, Url};

use crate::start::{encoded, start_target};
use crate::target::is_local_target;
use crate::texts::Texts;
use crate::{Answer, Ask};

const ACCENT: &str = "#0b5cad";
const STYLE: &str = "\
    *{box-sizing:border-box}body{margin:0;min-height:100vh;display:grid;place-items:center;background:#f6f8fa;\
    color:#1b1f24;font:16px/1.5 system-ui,sans-serif}main{width:min(26rem,100vw - 2rem);margin:1rem;padding:2rem;\
    background:#fff;border:1px solid #d0d7de;border-radius:8px}img{display:block;max-width:100%;max-height:3rem;\
    margin-bottom:1.5rem}h1{font-size:1.25rem;line-height:1.25;margin:0 0 .5rem}p{margin:0 0 1rem}ul{list-style:none;\
    margin:0;padding:0}a.b,button{display:block;width:100%;margin-top:.75rem;padding:.625rem 1rem;\
    border:1px solid var(--a);border-radius:4px;background:var(--a);color:#fff;font:inherit;text-align:center;\
    text-decoration:none;cursor:pointer}.q{background:none!important;color:inherit!important;\
    border-color:#7d8590!important}label{display:block;margin-top:.75rem}input:not([type=hidden]){display:block;\
    width:100%;padding:.5rem .75rem;border:1px solid #7d8590;border-radius:4px;background:inherit;color:inherit;\
    font:inherit}a.b:focus-visible,button:focus-visible,input:focus-visible{outline:2px solid var(--a);\
    outline-offset:2px}.d{color:#57606a;font-size:.875rem;margin:1.5rem 0 0}code{font-family:ui-monospace,monospace;\
    overflow-wrap:anywhere}@media(prefers-color-scheme:dark){body{background:#0e1116;color:#e6eaf0}\
    main{background:#161b22;border-color:#30363d}.d{color:#9aa4b2}}";

/// The facts that a browser wants a page, and in which language.
#[derive(Clone, Debug)]
pub struct PageRequest {
    languages: String,
    /// The page that it asked for, to come back to; for a form the page that the form is on.
    pub page: String,
    /// It sent a form, which is lost when the request is refused.
    pub is_form: bool,
}

impl PageRequest {
    /// `None` for programs and for scripts in pages.
    pub fn of(view: RequestView<'_>) -> Option<Self> {
        let is_form = sends_form(view);
        if !is_form && !navigates(view) {
            return None;
        }
        let languages = view.headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        let languages = languages.unwrap_or_default().chars().take(256).collect();
        let page = if is_form { page_of_form(view) } else { view.target.to_owned() };
        Some(Self { languages, page, is_form })
    }
}

/// The page of this host that a form is on, as far as the browser says: its address may be asked for with GET, which
/// is not sure of the form's own.
fn page_of_form(view: RequestView<'_>) -> String {
    let referer = view.headers.get(header::REFERER).and_then(|value| value.to_str().ok()).map(Url::parse);
    let own = |url: &Url| {
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let authority = format!("{}{port}", url.host_str().unwrap_or_default());
        authority.eq_ignore_ascii_case(view.authority)
    };
    let page = match referer {
        Some(Ok(url)) if own(&url) => url[Position::BeforePath..Position::AfterQuery].to_owned(),
        _ => view.target.to_owned(),
    };
    if is_local_target(&page) { page } else { "/".to_owned() }
}

/// Text for people: without markup, and with visible marks for characters that a browser would obey without showing
/// them (bidirectional controls, line separators).
fn shown(text: &str) -> String {
    markup(&visible(text))
}

/// The value of an attribute, which must be submitted unchanged: invisible characters are written as references.
/// Controls, which HTML cannot represent, are omitted.
fn attribute(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars().filter(|c| !c.is_control()) {
        if is_hidden(c) {
            let _ = write!(out, "&#x{:x};", u32::from(c));
        } else {
            out.push_str(&markup(c.encode_utf8(&mut [0; 4])));
        }
    }
    out
}

fn markup(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

struct Page<'p> {
    pages: &'p Pages,
    host: &'p str,
    texts: &'static Texts,
    heading: &'p str,
    /// HTML that is already escaped.
    content: String,
    /// The targets that its forms may lead to, besides this host.
    leads_to: Vec<String>,
}

impl Page<'_> {
    fn answer(self, status: u16) -> Answer {
        let Self { pages, host, texts, heading, content, leads_to } = self;
        let title = pages.title.as_deref().unwrap_or(host);
        let style = format!(":root{{--a:{}}}{STYLE}", pages.accent.as_deref().unwrap_or(ACCENT));
        let logo =
            pages.logo.as_deref().map(|logo| format!("<img src=\"{}\" alt=\"\">", attribute(logo))).unwrap_or_default();
        let body = format!(
            "<!doctype html>\n<html lang=\"{}\"><head><meta charset=\"utf-8\">\
                <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <meta name=\"robots\" content=\"noindex\"><title>{} – {}</title><style>{style}</style></head>\n<body>\
             <main>{logo}<h1>{}</h1>\n{content}</main></body></html>\n",
            texts.tag,
            shown(heading),
            shown(title),
            shown(heading),
        );
        let hash = STANDARD.encode(digest(&SHA256, style.as_bytes()));
        let image = match pages.logo.as_deref().map(Url::parse) {
            Some(Ok(url)) => url.origin().ascii_serialization(),
            Some(Err(_)) => "'self'".to_owned(),
            None => "'none'".to_owned(),
        };
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{hash}'; img-src {image}; form-action 'self'{}; frame-ancestors \
                'none'; base-uri 'none'",
            leads_to.iter().map(|origin| format!(" {origin}")).collect::<String>()
        );
        let mut answer = Answer::empty(status);
        let headers = [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CONTENT_SECURITY_POLICY, policy.as_str()),
            (header::X_FRAME_OPTIONS, "DENY"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            // No path and no query leave the page. Without any referrer, browsers would send our own forms with the
            // origin `null` (Fetch, "append a request `Origin` header"), and those are refused.
            (header::REFERRER_POLICY, "strict-origin"),
            (header::CONTENT_LANGUAGE, texts.tag),
        ];
        answer.headers.extend(
            headers
                .into_iter()
                .filter_map(|(name, value): (HeaderName, &str)| Some((name, HeaderValue::from_str(value).ok()?))),
        );
        answer.body = Bytes::from(body);
        answer
    }
}

fn page<'p>(
    method: &'p ArmedSignIn,
    ask: Ask<'p>,
    heading: impl FnOnce(&'static Texts) -> &'static str,
    content: impl FnOnce(&'static Texts) -> String,
) -> Page<'p> {
    let texts = Texts::of(ask.page_request.map_or("", |page_request| &page_request.languages));
    Page {
        pages: &method.plan().pages,
        host: ask.view.host,
        texts,
        heading: heading(texts),
        content: content(texts),
        leads_to: Vec::new(),
    }
}

/// The page where the person chooses a provider.
pub(crate) fn chooser(method: &ArmedSignIn, ask: Ask<'_>, to: &str) -> Answer {
    let base = &method.plan().base;
    let open =
        method.providers().iter().map(|provider| provider.federation()).filter(|federation| !federation.suspended);
    let link = |name: &str, title: &str| {
        let address = format!("{base}?at={}&to={}", encoded(name), encoded(to));
        format!("<li><a class=\"b\" href=\"{}\">{}</a></li>\n", attribute(&address), shown(title))
    };
    let links: String = open.map(|federation| link(&federation.key.name, &federation.title)).collect();
    page(method, ask, |texts| texts.sign_in, |texts| format!("<p>{}</p>\n<ul>{links}</ul>", shown(texts.choose)))
        .answer(200)
}

/// The page where the person confirms the sign-out.
pub(crate) fn confirm_logout(method: &ArmedSignIn, ask: Ask<'_>) -> Answer {
    let action = SignInEndpoint::Logout.path(&method.plan().base, None);
    let content = |texts: &'static Texts| {
        format!(
            "<p>{}</p>\n<form method=\"post\" action=\"{}\"><button>{}</button>\
                <button class=\"q\" name=\"everywhere\" value=\"1\">{}</button></form>\n\
             <a class=\"b q\" href=\"/\">{}</a>",
            shown(texts.sign_out_question),
            attribute(&action),
            shown(texts.sign_out),
            shown(texts.sign_out_everywhere),
            shown(texts.stay)
        )
    };
    // The form's answer redirects to the provider, if the provider has an endpoint for logout.
    let leads_to = method.providers().iter().flat_map(|provider| provider.leads_to()).collect();
    Page { leads_to, ..page(method, ask, |texts| texts.sign_out, content) }.answer(200)
}

/// The page where the person presses a button that forwards a message, because no page here runs a script.
pub(crate) fn onward(
    method: &ArmedSignIn,
    ask: Ask<'_>,
    action: &str,
    field: &str,
    value: &str,
    relay_state: Option<&str>,
) -> Answer {
    let hidden = |name: &str, value: &str| {
        format!("<input type=\"hidden\" name=\"{}\" value=\"{}\">", attribute(name), attribute(value))
    };
    let state = relay_state.map(|state| hidden("RelayState", state)).unwrap_or_default();
    let content = |texts: &'static Texts| {
        format!(
            "<p>{}</p>\n<form method=\"post\" action=\"{}\">{}{state}<button autofocus>{}</button></form>",
            shown(texts.onward),
            attribute(action),
            hidden(field, value),
            shown(texts.go_on)
        )
    };
    let leads_to = method.providers().iter().flat_map(|provider| provider.leads_to()).collect();
    Page { leads_to, ..page(method, ask, |texts| texts.sign_in, content) }.answer(200)
}

/// The page after signing out.
pub(crate) fn logged_out(method: &ArmedSignIn, ask: Ask<'_>) -> Answer {
    let content = |texts: &'static Texts| {
        format!("<p>{}</p>\n<a class=\"b q\" href=\"/\">{}</a>", shown(texts.signed_out_more), shown(texts.again))
    };
    page(method, ask, |texts| texts.signed_out, content).answer(200)
}

/// The form for user name and password, or with a new password besides. HTML alone says what each field is, so that
/// password managers and screen readers know it.
fn login_form(method: &ArmedSignIn, texts: &Texts, form: &LoginForm) -> String {
    let LoginForm { federation, state, username, changes_password } = form;
    let action = SignInEndpoint::Login.path(&method.plan().base, Some(federation));
    let password = |id: &str, name: &str, label: &str, purpose: &str, is_first: bool| {
        let focus = if is_first { " autofocus" } else { "" };
        format!(
            "<label for=\"{id}\">{}</label><input id=\"{id}\" name=\"{name}\" type=\"password\" \
             autocomplete=\"{purpose}\" required maxlength=\"1024\"{focus}>",
            shown(label)
        )
    };
    let focus = if username.is_empty() { " autofocus" } else { "" };
    let mut fields = password("p", "password", texts.password, "current-password", !username.is_empty());
    if *changes_password {
        fields = password("p", "password", texts.old_password, "current-password", !username.is_empty());
        fields.push_str(&password("n", "newPassword", texts.new_password, "new-password", false));
        fields.push_str(&password("r", "newPasswordAgain", texts.new_password_again, "new-password", false));
    }
    let button = if *changes_password { texts.change } else { texts.sign_in };
    format!(
        "<form method=\"post\" action=\"{}\"><input type=\"hidden\" name=\"state\" value=\"{}\">\
         <label for=\"u\">{}</label><input id=\"u\" name=\"username\" value=\"{}\" autocomplete=\"username\" \
         autocapitalize=\"none\" spellcheck=\"false\" required maxlength=\"256\"{focus}>{fields}<button>{}</button>\
         </form>",
        attribute(&action),
        attribute(state),
        shown(texts.username),
        attribute(username),
        shown(button)
    )
}

/// The page after a password was changed: the person signs in with the new one.
pub(crate) fn changed(method: &ArmedSignIn, directory: &ArmedDirectory, ask: Ask<'_>, form: &LoginForm) -> Answer {
    let title = &directory.federation().title;
    let content = |texts: &'static Texts| {
        format!(
            "<p role=\"status\">{}</p>\n<p>{}</p>\n{}",
            shown(texts.password_changed[1]),
            shown(title),
            login_form(method, texts, form)
        )
    };
    page(method, ask, |texts| texts.password_changed[0], content).answer(200)
}

/// The page with the form of a directory.
pub(crate) fn login(method: &ArmedSignIn, directory: &ArmedDirectory, ask: Ask<'_>, form: &LoginForm) -> Answer {
    let title = &directory.federation().title;
    let content = |texts: &'static Texts| format!("<p>{}</p>\n{}", shown(title), login_form(method, texts, form));
    page(method, ask, |texts| texts.sign_in, content).answer(200)
}

/// A refusal that a person is told.
pub struct RefusedPage<'r> {
    /// The request for a page.
    pub page_request: &'r PageRequest,
    /// The host.
    pub host: &'r str,
    /// The reason.
    pub reason: Reason,
    /// The form in which the person may try again at once.
    pub form: Option<&'r LoginForm>,
    /// The decision id of the record.
    pub id: DecisionId,
}

/// A refusal for people: the steps that they can take, and the decision id of the record.
pub fn refusal_page(method: &ArmedSignIn, refused: RefusedPage<'_>) -> Answer {
    let RefusedPage { page_request, host, reason, form, id } = refused;
    let texts = Texts::of(&page_request.languages);
    let is_lost =
        page_request.is_form && matches!(reason, Reason::NoCredentials | Reason::SessionEnded | Reason::StepUpRequired);
    let [heading, sentence] = match form {
        _ if is_lost => texts.form_lost,
        Some(form) => texts.login_refusal(reason, form.changes_password),
        None => texts.refusal(reason),
    };
    let next = match form {
        Some(form) => format!("{}\n", login_form(method, texts, form)),
        None => next_step(method, texts, page_request, reason, is_lost),
    };
    let alert = if form.is_some() { " role=\"alert\"" } else { "" };
    let content = format!(
        "<p{alert}>{}</p>\n{next}<p class=\"d\">{} <code>{id}</code></p>",
        shown(sentence),
        shown(texts.support)
    );
    Page { pages: &method.plan().pages, host, texts, heading, content, leads_to: Vec::new() }.answer(reason.status())
}

/// The link that a refused person may follow. A person without access does not get it by signing in again; for the
/// other reasons that is offered.
fn next_step(method: &ArmedSignIn, texts: &Texts, page_request: &PageRequest, reason: Reason, is_lost: bool) -> String {
    match reason {
        _ if is_lost => {
            let back = start_target(method, &page_request.page);
            format!("<a class=\"b\" href=\"{}\">{}</a>", attribute(&back), shown(texts.again))
        }
        Reason::UnknownSignIn
        | Reason::SignInRefused
        | Reason::UnusableClaim
        | Reason::UntrustedSignIn
        | Reason::StepUpRequired
        | Reason::ProviderUnavailable => {
            format!("<a class=\"b\" href=\"/\">{}</a>", shown(texts.again))
        }
        reason if reason.status() == 403 => {
            let leave = SignInEndpoint::Logout.path(&method.plan().base, None);
            format!("<a class=\"b q\" href=\"{}\">{}</a>", attribute(&leave), shown(texts.sign_out))
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_text_becomes_markup() {
        assert_eq!(shown("<script>'\"&x"), "&lt;script&gt;&#39;&quot;&amp;x");
        assert_eq!(attribute("<script>'\"&x"), "&lt;script&gt;&#39;&quot;&amp;x");
    }

    #[test]
    fn nothing_that_others_wrote_is_obeyed_unseen() {
        let planted = "a\u{1b}[2J\u{7}\n\u{9b}\u{202e}b\u{2066}\u{2028}\u{200f}";
        assert_eq!(shown(planted), "a\\u{1b}[2J\\u{7}\\u{a}\\u{9b}\\u{202e}b\\u{2066}\\u{2028}\\u{200f}");
        assert_eq!(attribute(planted), "a[2J&#x202e;b&#x2066;&#x2028;&#x200f;");
        let pages = Pages { title: Some(planted.into()), ..Pages::default() };
        let page = Page {
            pages: &pages,
            host: "a",
            texts: Texts::of("de"),
            heading: planted,
            content: String::new(),
            leads_to: Vec::new(),
        };
        let body = String::from_utf8(page.answer(200).body.to_vec()).unwrap();
        assert!(!body.chars().any(|c| is_hidden(c) && c != '\n'), "{body}");
        assert_eq!(body.matches("\\u{202e}").count(), 3, "{body}");
    }

    #[test]
    fn a_page_allows_its_own_style_and_nothing_else() {
        let pages = Pages {
            title: Some("<Shop>".into()),
            logo: Some("https://cdn.example/l.svg".into()),
            accent: Some("#112233".into()),
        };
        let page = Page {
            pages: &pages,
            host: "a",
            texts: Texts::of("de"),
            heading: "<b>",
            content: "<p>ok</p>".into(),
            leads_to: vec!["https://idp".into()],
        };
        let answer = page.answer(403);
        let body = String::from_utf8(answer.body.to_vec()).unwrap();
        let style = body.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
        let policy = answer.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(
            policy.contains(&format!("'sha256-{}'", STANDARD.encode(digest(&SHA256, style.as_bytes())))),
            "{policy}"
        );
        assert!(
            policy.contains("img-src https://cdn.example;") && policy.contains("form-action 'self' https://idp;"),
            "{policy}"
        );
        assert!(
            body.contains("&lt;Shop&gt;")
                && body.contains("lang=\"de\"")
                && body.contains("--a:#112233")
                && !body.contains("<script"),
            "{body}"
        );
        assert_eq!(answer.status, 403);
    }
}
