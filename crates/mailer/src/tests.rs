//! Mails as a server gets them.

use crate::testing::{Received, Server};
use crate::{Config, Full, Language, Mail, Mailer, Template, TlsMode};
use std::sync::atomic::Ordering;
use std::time::Duration;

fn config(server: &Server) -> Config {
    Config {
        server: Some("127.0.0.1".to_owned()),
        port: Some(server.address.port()),
        tls: TlsMode::None,
        from: Some("Канцелярия <no-reply@agency.example>".to_owned()),
        retry_first: Duration::from_millis(10),
        ..Config::default()
    }
}

fn mail() -> Mail {
    Mail::new("alice@agency.example".parse().unwrap(), Template::ResetPassword, Language::English)
        .with("link", "https://a.example/x?y=1&z=2")
}

async fn next(server: &mut Server) -> Received {
    tokio::time::timeout(Duration::from_secs(20), server.mails.recv()).await.expect("a mail comes").unwrap()
}

#[tokio::test]
async fn a_mail_is_sent_as_text_and_as_html() {
    let mut server = Server::new().await;
    let mailer = Mailer::start(&config(&server), "agency.example").unwrap().unwrap();
    mailer.send(&mail()).unwrap();
    let received = next(&mut server).await;
    assert!(received.from.contains("<no-reply@agency.example>") && received.to.contains("<alice@agency.example>"));
    let data = &received.data;
    for part in [
        "Subject: A new password for agency.example\r\n",
        "To: alice@agency.example\r\n",
        "Auto-Submitted: auto-generated\r\n",
        "Content-Type: multipart/alternative;",
        "Content-Type: text/plain; charset=utf-8\r\n",
        "Content-Type: text/html; charset=utf-8\r\n",
    ] {
        assert!(data.contains(part), "{part}\n{data}");
    }
    assert!(received.auth.is_none());
}

#[tokio::test]
async fn a_mail_that_the_server_can_not_take_now_is_sent_again() {
    let mut server = Server::new().await;
    server.replies.lock().unwrap().extend(["451 later\r\n", "421 later\r\n"]);
    let mailer = Mailer::start(&config(&server), "agency.example").unwrap().unwrap();
    mailer.send(&mail()).unwrap();
    next(&mut server).await;
    assert_eq!(mailer.figures().failed.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_mail_that_the_server_refuses_is_not_sent_again() {
    let mut server = Server::new().await;
    server.replies.lock().unwrap().push_back("550 never\r\n");
    let mailer = Mailer::start(&Config { connections_max: 1, ..config(&server) }, "agency.example").unwrap().unwrap();
    mailer.send(&mail()).unwrap();
    mailer.send(&mail()).unwrap();
    next(&mut server).await;
    assert_eq!(mailer.figures().given_up.load(Ordering::Relaxed), 1);
    assert_eq!(mailer.figures().failed.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn so_many_mails_wait_and_no_more() {
    let server = Server::new().await;
    server.replies.lock().unwrap().push_back("451 later\r\n");
    let config = Config { queue_max: 1, retry_first: Duration::from_hours(1), ..config(&server) };
    let mailer = Mailer::start(&config, "agency.example").unwrap().unwrap();
    mailer.send(&mail()).unwrap();
    assert_eq!(mailer.send(&mail()), Err(Full));
}

#[tokio::test]
async fn the_password_is_read_from_its_file() {
    let mut server = Server::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "secret\n").unwrap();
    let config = Config { user: Some("user".to_owned()), password_file: Some(file.clone()), ..config(&server) };
    let mailer = Mailer::start(&config, "agency.example").unwrap().unwrap();
    mailer.send(&mail()).unwrap();
    // What base64 makes of "\0user\0secret".
    assert_eq!(next(&mut server).await.auth.as_deref(), Some("AHVzZXIAc2VjcmV0"));
    std::fs::remove_file(&file).unwrap();
    assert!(Mailer::start(&config, "agency.example").is_err());
}

#[tokio::test]
async fn without_a_server_there_is_no_mailer() {
    assert!(Mailer::start(&Config::default(), "agency.example").unwrap().is_none());
}

#[tokio::test]
async fn every_template_has_a_subject_and_a_text_in_every_language() {
    let (mailer, mut rendered) = Mailer::to_channel("agency.example");
    for template in Template::ALL {
        for language in Language::ALL {
            let to = "alice@agency.example".parse().unwrap();
            let rooms = [std::collections::BTreeMap::from([("name", "room")])];
            mailer.send(&Mail::new(to, *template, language).with("rooms", rooms)).unwrap();
            let mail = rendered.recv().await.unwrap();
            assert!(mail.subject.contains("agency.example"), "{}: {}", template.name(), mail.subject);
            assert!(mail.text.len() > 100 && mail.html.contains("<html lang="), "{}", template.name());
        }
    }
}

#[tokio::test]
async fn what_users_write_becomes_neither_markup_nor_a_header() {
    let (mailer, mut rendered) = Mailer::to_channel("agency.example");
    let to = "alice@agency.example".parse().unwrap();
    let rooms = [std::collections::BTreeMap::from([("name", "<b>x</b>\r\nBcc: eve@evil.example")])];
    mailer.send(&Mail::new(to, Template::Digest, Language::Russian).with("rooms", rooms)).unwrap();
    let mail = rendered.recv().await.unwrap();
    assert!(!mail.subject.contains(['\r', '\n']));
    assert!(mail.html.contains("&lt;b&gt;") && !mail.html.contains("<b>"));
}

#[tokio::test]
async fn the_operator_can_replace_templates() {
    let server = Server::new().await;
    let folder = tempfile::tempdir().unwrap();
    let config = Config { templates: Some(folder.path().to_owned()), ..config(&server) };
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("reset_password.en.txt", "Subject: Ours\n\nGo to {{ link }}");
    write("reset_password.en.html", "<a href=\"{{ link }}\">go</a>");
    let templates = crate::template::Templates::load(config.templates.as_deref(), "agency.example").unwrap();
    let rendered = templates.render(&mail());
    assert_eq!(rendered.subject, "Ours");
    assert_eq!(rendered.text, "Go to https://a.example/x?y=1&z=2");
    assert!(rendered.html.contains("y=1&amp;z=2"), "{}", rendered.html);
    write("reset_password.ru.txt", "no subject");
    assert!(Mailer::start(&config, "agency.example").is_err());
    write("reset_password.ru.txt", "Subject: {{ unclosed");
    assert!(Mailer::start(&config, "agency.example").is_err());
}
