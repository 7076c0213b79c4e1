//! The settings.

use base::Secret;
use base::config::{ByteSize, Checks};
use std::path::PathBuf;
use std::time::Duration;

/// The largest object that S3 copies at once, which ends a large upload.
const S3_BYTES_MAX: ByteSize = ByteSize::gib(5);

base::config! {
    /// Files that users upload, and those of other servers.
    #[check = Config::check]
    pub struct Config {
        /// The folder of the files. Unset: `media` in the agency's data_dir. Not used with s3.
        #[example = r#""/var/lib/chancery/media""#]
        pub folder: Option<PathBuf>,
        /// An S3-compatible store to keep the files in, instead of a folder.
        pub s3: Option<S3>,
        /// The largest file that users may upload.
        pub upload_bytes_max: ByteSize = ByteSize::mib(100),
        /// How long an upload may take.
        pub upload_timeout: Duration = Duration::from_hours(2),
        /// How long an upload may stand still.
        pub upload_idle_timeout: Duration = Duration::from_secs(30),
        /// How many uploads there may be at once. On s3 each takes up to 24 MiB of memory, else 1 MiB.
        pub uploads_at_once_max: usize = 200,
        /// How many uploads each user may have at once.
        pub user_uploads_at_once_max: usize = 8,
        /// How much each user may upload in all. Unset: any amount.
        #[example = r#""10 GiB""#]
        pub user_bytes_max: Option<ByteSize>,
        /// How many files each user may upload in all. Unset: any number.
        #[example = "100000"]
        pub user_files_max: Option<u64>,
        /// How many names each user may have to which nothing was uploaded yet.
        pub user_pending_max: usize = 20,
        /// How long such a name waits for its upload.
        pub pending_lifetime: Duration = Duration::from_hours(24),
        /// The largest file that is fetched from other servers.
        pub remote_bytes_max: ByteSize = ByteSize::mib(100),
        /// What the old endpoints serve, which anybody may ask without logging in: "off" (nothing), "frozen" (what came
        /// before legacy_frozen_at) or "open" (everything, which lets the world read all files whose address is known).
        pub legacy: Legacy = Legacy::Off,
        /// For legacy = "frozen": the time up to which files came, in seconds since 1970.
        #[example = "1725148800"]
        pub legacy_frozen_at: Option<u64>,
        /// Thumbnails.
        pub thumbnails: Thumbnails,
        /// Previews of pages that users link to.
        pub previews: Previews,
        /// How long files are kept.
        pub retention: Retention,
        /// What is done with files that a scanner has not found clean. Only with a scanner.
        pub scan: Scanning,
    }
}

base::config_choice! {
    /// What the old endpoints without authentication serve.
    pub enum Legacy {
        /// Nothing.
        Off = "off",
        /// What came before a day.
        Frozen = "frozen",
        /// Everything.
        Open = "open",
    }
}

base::config! {
    /// An S3-compatible store.
    #[check = S3::check]
    #[required]
    pub struct S3 {
        /// The bucket. It belongs to this agency alone, or the prefix does.
        #[example = r#""agency-media""#]
        pub bucket: String,
        /// What the names of all objects begin with.
        #[example = r#""agency.example/""#]
        pub prefix: Option<String>,
        /// Where the store is. Unset: Amazon's, in the region.
        #[example = r#""https://s3.agency.example""#]
        pub endpoint: Option<String>,
        /// The region.
        pub region: String = "us-east-1".to_owned(),
        /// The id of the access key.
        #[example = r#""AKIAIOSFODNN7EXAMPLE""#]
        pub access_key_id: String,
        /// The secret access key.
        #[example = r#""a-secret""#]
        pub secret_access_key: Secret<String>,
        /// Whether the bucket is part of the host name, as Amazon wants it, or of the path, as most others do.
        pub bucket_in_host: bool = false,
    }
}

base::config! {
    /// Thumbnails.
    #[check = Thumbnails::check]
    pub struct Thumbnails {
        /// The largest file that thumbnails are made of.
        pub source_bytes_max: ByteSize = ByteSize::mib(50),
        /// The largest image that thumbnails are made of, in pixels. Each takes up to eight bytes of memory while the
        /// thumbnail is made.
        pub source_pixels_max: u64 = 50_000_000,
        /// How many pixels all frames of an animation may have; of more, the first frame is shown.
        pub animation_pixels_max: u64 = 100_000_000,
        /// How many are made at once. Unset: half as many as the machine has processors.
        #[example = "4"]
        pub at_once_max: Option<usize>,
    }
}

base::config! {
    /// Previews of pages that users link to. The server fetches the page, so it learns the address, and so does who
    /// runs the page. Which addresses may be connected to is set in [agency.outgoing].
    #[check = Previews::check]
    pub struct Previews {
        /// Whether there are any.
        pub enabled: bool = false,
        /// The only hosts of which there are previews, with those below them. Empty: all.
        #[example = r#"["agency.example"]"#]
        pub hosts: Vec<String>,
        /// Hosts of which there are none, with those below them.
        #[example = r#"["secret.agency.example"]"#]
        pub hosts_refused: Vec<String>,
        /// The languages in which pages are asked for, as in an Accept-Language header.
        pub languages: String = "ru, en;q=0.8".to_owned(),
        /// How much of a page is read.
        pub page_bytes_max: ByteSize = ByteSize::mib(2),
        /// The largest picture that is shown.
        pub image_bytes_max: ByteSize = ByteSize::mib(10),
        /// How long a page may take to be fetched.
        pub timeout: Duration = Duration::from_secs(15),
        /// How long a preview is shown before the page is fetched again.
        pub lifetime: Duration = Duration::from_hours(24),
        /// How many pages are fetched at once.
        pub at_once_max: usize = 16,
    }
}

base::config! {
    /// How long files are kept.
    pub struct Retention {
        /// How long a file that was uploaded here is kept after it was last asked for. Unset: forever. Files that are
        /// protected, and pictures of users, stay.
        #[example = r#""52w""#]
        pub local: Option<Duration>,
        /// How long a file of another server is kept after it was last asked for; it can be fetched again. Unset: forever.
        #[example = r#""12w""#]
        pub remote: Option<Duration>,
        /// How often it is looked for files that can go, and for what a crash has left.
        pub every: Duration = Duration::from_hours(6),
    }
}

base::config! {
    /// What is done with files that a scanner has not found clean.
    pub struct Scanning {
        /// For files that can't be looked into, and while the scanner does not answer: "closed" (nobody gets them) or
        /// "open" (everybody does). What is found infected nobody gets.
        pub policy: ScanPolicy = ScanPolicy::Closed,
        /// How long the answer to an upload waits for the verdict, so that the uploader learns of it.
        pub upload_wait: Duration = Duration::from_secs(10),
        /// How long a clean verdict holds. Unset: forever. A shorter time lets newer signatures find what older ones
        /// did not know.
        #[example = r#""1w""#]
        pub clean_lifetime: Option<Duration>,
        /// How many files are scanned at once.
        pub at_once_max: usize = 4,
        /// How long one scan may take.
        pub timeout: Duration = Duration::from_mins(2),
    }
}

base::config_choice! {
    /// What is done when nothing is known.
    pub enum ScanPolicy {
        /// Let nothing through.
        Closed = "closed",
        /// Let everything through.
        Open = "open",
    }
}

impl Config {
    fn check(&self, wrong: &mut Checks<'_, '_>) {
        if self.s3.is_some() && self.upload_bytes_max.max(self.remote_bytes_max) > S3_BYTES_MAX {
            wrong.key("upload_bytes_max", format_args!("and remote_bytes_max may be {S3_BYTES_MAX} at most with s3"));
        }
        if self.legacy == Legacy::Frozen && self.legacy_frozen_at.is_none() {
            wrong.key("legacy_frozen_at", "must be set with legacy = \"frozen\"");
        }
        if self.upload_timeout.is_zero() || self.upload_idle_timeout.is_zero() {
            wrong.key("upload_timeout", "and upload_idle_timeout must be longer than zero");
        }
        if self.uploads_at_once_max == 0 || self.user_uploads_at_once_max == 0 {
            wrong.key("uploads_at_once_max", "and user_uploads_at_once_max must be 1 at least");
        }
    }
}

impl S3 {
    fn check(&self, wrong: &mut Checks<'_, '_>) {
        if self.bucket.is_empty() || self.bucket.contains('/') {
            wrong.key("bucket", "must be the name of a bucket");
        }
        if let Some(endpoint) = &self.endpoint
            && !endpoint.starts_with("https://")
            && !endpoint.starts_with("http://")
        {
            wrong.key("endpoint", format_args!("must be a URL, not \"{endpoint}\""));
        }
    }
}

impl Previews {
    fn check(&self, wrong: &mut Checks<'_, '_>) {
        if http::HeaderValue::from_str(&self.languages).is_err() {
            wrong.key("languages", "must be as in an Accept-Language header, such as \"ru, en;q=0.8\"");
        }
        for host in self.hosts.iter().chain(&self.hosts_refused) {
            if host.is_empty() || host.contains(['/', ':', '*', ' ']) {
                wrong.key("hosts", format_args!("and hosts_refused must be names of hosts, not \"{host}\""));
            }
        }
    }
}

impl Thumbnails {
    fn check(&self, wrong: &mut Checks<'_, '_>) {
        if self.at_once_max == Some(0) {
            wrong.key("at_once_max", "must be 1 at least");
        }
    }

    /// How many are made at once.
    #[must_use]
    pub fn at_once(&self) -> usize {
        let half = || std::thread::available_parallelism().map_or(1, |count| count.get().div_ceil(2));
        self.at_once_max.unwrap_or_else(half).max(1)
    }
}
