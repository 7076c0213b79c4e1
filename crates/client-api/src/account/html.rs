//! The pages that people see in a browser when their client doesn't know what the server asks: plain HTML, in the
//! language of the browser, without scripts but those that the specification gives.

use super::interactive::Stage;
use axum::response::{Html, IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    ACCEPT_LANGUAGE, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, ORIGIN, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

const STYLE: &str = "body{font:1.1em/1.5 system-ui,sans-serif;max-width:32em;margin:3em auto;padding:0 1em}\
input,button{font:inherit;display:block;width:100%;box-sizing:border-box;margin:.3em 0 1em;padding:.5em}\
.error{color:#a00000}@media(prefers-color-scheme:dark){body{background:#181818;color:#eee}a{color:#8bf}\
.error{color:#f88}}";

/// What a page that has completed a stage runs (client-server API, "User-Interactive Authentication API",
/// "Fallback").
pub(super) const AUTH_DONE: &str = "if (window.onAuthDone) { window.onAuthDone(); } \
else if (window.opener && window.opener.postMessage) { window.opener.postMessage(\"authDone\", \"*\"); }";

/// What a page that has logged somebody in runs (client-server API, "Login Fallback").
pub(super) const LOGGED_IN: &str = "var response = JSON.parse(document.getElementById(\"response\").textContent); \
if (window.matrixLogin && window.matrixLogin.onLogin) { window.matrixLogin.onLogin(response); }";

/// A language that pages are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    English,
    Russian,
}

impl Language {
    /// The one of the languages that the browser prefers; English if it names neither.
    pub fn of(headers: &HeaderMap) -> Self {
        Self::named(headers).unwrap_or(Self::English)
    }

    /// The one of the languages that the browser prefers, if it names one.
    pub fn named(headers: &HeaderMap) -> Option<Self> {
        let accepted = headers.get_all(ACCEPT_LANGUAGE).iter().filter_map(|line| line.to_str().ok());
        let mut best = (0.0, None);
        for range in accepted.flat_map(|line| line.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let tag = parts.next().unwrap_or_default();
            let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |weight| weight.parse().ok());
            let language = match tag.split('-').next().unwrap_or_default().to_ascii_lowercase().as_str() {
                "ru" => Self::Russian,
                "en" => Self::English,
                _ => continue,
            };
            let weight: f64 = weight.unwrap_or(0.0);
            if weight > best.0 {
                best = (weight, Some(language));
            }
        }
        best.1
    }

    /// The tag of the language.
    pub fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Russian => "ru",
        }
    }

    /// The one of the two texts that is in this language.
    pub fn text(self, english: &'static str, russian: &'static str) -> &'static str {
        match self {
            Self::English => english,
            Self::Russian => russian,
        }
    }
}

/// A page: what it shows, and the script that it runs.
pub(super) struct Page {
    pub language: Language,
    pub status: StatusCode,
    pub title: &'static str,
    /// HTML: whatever is not written here has gone through [`escape`].
    pub body: String,
    pub script: Option<&'static str>,
}

impl Page {
    /// A page that shows a form.
    pub fn new(language: Language, title: &'static str, body: String) -> Self {
        Self { language, status: StatusCode::OK, title, body, script: None }
    }

    /// A page that says why nothing can be done.
    pub fn problem(language: Language, status: StatusCode, title: &'static str, text: &str) -> Self {
        Self { status, ..Self::new(language, title, format!("<p class=\"error\">{}</p>", escape(text))) }
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let (language, title) = (self.language.tag(), escape(self.title));
        let script = self.script.map(|script| format!("<script>{script}</script>")).unwrap_or_default();
        let html = format!(
            "<!DOCTYPE html><html lang=\"{language}\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head>\
             <body><h1>{title}</h1>{}{script}</body></html>",
            self.body
        );
        let mut policy = format!(
            "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; style-src '{}'",
            hash(STYLE)
        );
        if let Some(script) = self.script {
            let _infallible = write!(policy, "; script-src '{}'", hash(script));
        }
        let mut response = (self.status, Html(html)).into_response();
        let headers = response.headers_mut();
        if let Ok(policy) = HeaderValue::from_str(&policy) {
            headers.insert(CONTENT_SECURITY_POLICY, policy);
        }
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // The address has the session in it. The page's own form still says where it comes from.
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
        response
    }
}

/// How a content security policy names an inline script or style.
fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}

/// A text as HTML shows it, in an attribute as well.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            char => out.push(char),
        }
    }
    out
}

/// Whether a page of another origin has sent this form. Browsers say so: in `Sec-Fetch-Site`, older ones in
/// `Origin`. What says neither is no browser, and no page can make it do anything.
pub(super) fn is_cross_site(parts: &Parts) -> bool {
    let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return !matches!(site, "same-origin" | "none");
    }
    let Some(origin) = text(ORIGIN.as_str()) else { return false };
    let own = parts.uri.authority().map(http::uri::Authority::as_str).or_else(|| text(HOST.as_str()));
    origin.split_once("://").is_none_or(|(_, host)| !own.is_some_and(|own| own.eq_ignore_ascii_case(host)))
}

/// What a form asks for.
pub(super) fn title_of(stage: Stage, language: Language) -> &'static str {
    match stage {
        Stage::Dummy => language.text("Confirm", "Подтверждение"),
        Stage::Password => language.text("Enter your password", "Введите пароль"),
        Stage::RegistrationToken => language.text("Enter your registration token", "Введите регистрационный токен"),
        Stage::Terms => language.text("Accept the terms", "Примите условия"),
        Stage::Email(_) => language.text("Confirm your e-mail address", "Подтвердите адрес электронной почты"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    #[test]
    fn the_language_is_the_one_that_the_browser_prefers() {
        for (accepted, expected) in [
            ("ru-RU,ru;q=0.9,en;q=0.8", Language::Russian),
            ("en-GB, ru;q=0.5", Language::English),
            ("de, ru;q=0.3, en;q=0.2", Language::Russian),
            ("fr", Language::English),
            ("ru;q=nonsense", Language::English),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT_LANGUAGE, HeaderValue::from_static(accepted))]);
            assert_eq!(Language::of(&headers), expected, "{accepted}");
        }
        assert_eq!(Language::of(&HeaderMap::new()), Language::English);
    }

    #[test]
    fn a_form_of_another_site_is_told_from_an_own_one() {
        let check = |headers: &[(&str, &str)]| {
            let mut request = Request::builder().uri("/_matrix/client/v3/auth/x/fallback/web?session=a");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            is_cross_site(&request.body(()).unwrap().into_parts().0)
        };
        assert!(!check(&[]));
        assert!(!check(&[("sec-fetch-site", "same-origin"), ("origin", "https://proxied.example")]));
        assert!(check(&[("sec-fetch-site", "cross-site")]));
        assert!(check(&[("sec-fetch-site", "same-site")]));
        assert!(!check(&[("host", "a.example:8448"), ("origin", "https://a.example:8448")]));
        assert!(check(&[("host", "a.example"), ("origin", "https://evil.example")]));
        assert!(check(&[("host", "a.example"), ("origin", "null")]));
    }

    #[test]
    fn nothing_that_is_typed_becomes_markup() {
        assert_eq!(escape("<a href=\"x\" b='&'>"), "&lt;a href=&quot;x&quot; b=&#39;&amp;&#39;&gt;");
    }
}
