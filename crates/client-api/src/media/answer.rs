//! Files as responses: the headers that keep browsers from doing harm with them, and parts of them.

use super::range::{Part, part};
use crate::ApiError;
use ::media::{File, Media, Thumbnail};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH, IF_RANGE, RANGE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use std::fmt::Write as _;

/// What may be shown in a browser rather than saved (client-server API, "Serving inline content").
const INLINE: [&str; 26] = [
    "text/css",
    "text/plain",
    "text/csv",
    "application/json",
    "application/ld+json",
    "image/jpeg",
    "image/gif",
    "image/png",
    "image/apng",
    "image/webp",
    "image/avif",
    "video/mp4",
    "video/webm",
    "video/ogg",
    "video/quicktime",
    "audio/mp4",
    "audio/webm",
    "audio/aac",
    "audio/mpeg",
    "audio/ogg",
    "audio/wave",
    "audio/wav",
    "audio/x-wav",
    "audio/x-pn-wav",
    "audio/flac",
    "audio/x-flac",
];
/// What content that somebody uploaded may do in a browser (client-server API, "Content repository").
const POLICY: &str = "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf; \
                      style-src 'unsafe-inline'; object-src 'self';";

/// Who may keep an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audience {
    /// Only who asked.
    Asker,
    /// Whoever passes it on.
    Everybody,
}

/// A file, or the part of it that is asked for.
pub(super) async fn file(
    media: &Media,
    file: &File,
    asked: &HeaderMap,
    audience: Audience,
) -> Result<Response, ApiError> {
    let etag = format!("\"{}\"", file.sha256);
    let text = |name| asked.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if is_known(text(IF_NONE_MATCH), &etag) {
        return Ok(unchanged(&etag, audience));
    }
    // A part of what it was is of no use if it is something else now.
    let range = text(RANGE).filter(|_| text(IF_RANGE).is_none_or(|known| known == etag));
    let (status, range) = match part(range, file.bytes) {
        Part::Whole => (StatusCode::OK, 0..file.bytes),
        Part::Bytes(range) => (StatusCode::PARTIAL_CONTENT, range),
        Part::Unsatisfiable => {
            let error = ApiError::invalid_param("the file does not have these bytes");
            let mut response = error.status(StatusCode::RANGE_NOT_SATISFIABLE).into_response();
            insert(response.headers_mut(), CONTENT_RANGE, &format!("bytes */{}", file.bytes));
            return Ok(response);
        }
    };
    let body = media.read(file, range.clone()).await?;
    let mut response = Response::new(Body::from_stream(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let disposition = disposition(&file.content_type, file.filename.as_deref());
    describe(headers, &file.content_type, &disposition, &etag, audience);
    insert(headers, CONTENT_LENGTH, &(range.end - range.start).to_string());
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if status == StatusCode::PARTIAL_CONTENT {
        let last = range.end.saturating_sub(1);
        insert(headers, CONTENT_RANGE, &format!("bytes {}-{last}/{}", range.start, file.bytes));
    }
    Ok(response)
}

/// A thumbnail.
pub(super) fn thumbnail(thumbnail: Thumbnail, asked: &HeaderMap, audience: Audience) -> Response {
    let key = thumbnail.key;
    let (crop, animated) = (u8::from(key.crop), u8::from(key.animated));
    let etag = format!("\"{}-{}x{}-{crop}{animated}\"", thumbnail.sha256, key.width, key.height);
    if is_known(asked.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok()), &etag) {
        return unchanged(&etag, audience);
    }
    let ending = thumbnail.content_type.rsplit('/').next().unwrap_or("png");
    let disposition = format!("inline; filename=\"thumbnail.{ending}\"");
    let mut response = Response::new(Body::empty());
    describe(response.headers_mut(), &thumbnail.content_type, &disposition, &etag, audience);
    insert(response.headers_mut(), CONTENT_LENGTH, &thumbnail.body.len().to_string());
    *response.body_mut() = Body::from(thumbnail.body);
    response
}

fn describe(headers: &mut HeaderMap, content_type: &str, disposition: &str, etag: &str, audience: Audience) {
    insert(headers, CONTENT_TYPE, content_type);
    insert(headers, CONTENT_DISPOSITION, disposition);
    insert(headers, ETAG, etag);
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("cross-origin"));
    headers.insert(CACHE_CONTROL, cache_control(audience));
}

/// The bytes of a name never change, but they may be taken away: so they are kept for a day.
fn cache_control(audience: Audience) -> HeaderValue {
    HeaderValue::from_static(match audience {
        Audience::Asker => "private, max-age=86400",
        Audience::Everybody => "public, max-age=86400",
    })
}

fn unchanged(etag: &str, audience: Audience) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    insert(response.headers_mut(), ETAG, etag);
    response.headers_mut().insert(CACHE_CONTROL, cache_control(audience));
    response
}

fn is_known(if_none_match: Option<&str>, etag: &str) -> bool {
    let known = if_none_match.into_iter().flat_map(|list| list.split(','));
    known.map(str::trim).any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == etag)
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    // What was stored was checked; a name of a file is encoded.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Whether a file is shown or saved, and under which name (RFC 6266).
fn disposition(content_type: &str, filename: Option<&str>) -> String {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let shown = if INLINE.contains(&kind.as_str()) { "inline" } else { "attachment" };
    let name: String = filename.unwrap_or_default().chars().filter(|letter| !letter.is_control()).collect();
    if name.is_empty() {
        return shown.to_owned();
    }
    if name.is_ascii() {
        let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
        return format!("{shown}; filename=\"{quoted}\"");
    }
    let mut encoded = String::with_capacity(name.len() * 3);
    for byte in name.bytes() {
        // What RFC 8187 lets through.
        if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    format!("{shown}; filename*=utf-8''{encoded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_does_no_harm_is_shown_in_place() {
        assert_eq!(disposition("image/png", None), "inline");
        assert_eq!(disposition("Text/Plain; charset=utf-8", None), "inline");
        for kind in ["text/html", "image/svg+xml", "application/pdf", "application/octet-stream", "img/png", ""] {
            assert_eq!(disposition(kind, None), "attachment", "{kind}");
        }
    }

    #[test]
    fn names_of_files_can_not_break_out() {
        let name = |name| disposition("image/png", Some(name));
        assert_eq!(name("name;with;semicolons"), "inline; filename=\"name;with;semicolons\"");
        assert_eq!(name("a\"b\\c\r\nSet-Cookie: x"), "inline; filename=\"a\\\"b\\\\cSet-Cookie: x\"");
        assert_eq!(name("\u{1f414}"), "inline; filename*=utf-8''%F0%9F%90%94");
        assert_eq!(name("\r\n"), "inline");
    }

    #[test]
    fn what_is_known_already_is_not_sent_again() {
        assert!(is_known(Some("\"a\", W/\"b\""), "\"b\""));
        assert!(is_known(Some("*"), "\"b\""));
        assert!(!is_known(Some("\"a\""), "\"b\"") && !is_known(None, "\"b\""));
    }
}
