//! How each WebDAV server is started, with the configuration that a test needs.

use super::*;

pub(super) fn program(candidates: &[&str]) -> PathBuf {
    let path = std::env::var("PATH").unwrap_or_default();
    let own = format!("{}/.local/bin", std::env::var("HOME").unwrap_or_default());
    // where scripts/test-servers puts what is newer than the system's comes first
    let places = std::iter::once(own.as_str()).chain(path.split(':')).chain(["/usr/sbin"]);
    for place in places {
        for name in candidates {
            let file = Path::new(place).join(name);
            if file.is_file() {
                return file;
            }
        }
    }
    panic!("{candidates:?} is not installed: run scripts/test-servers");
}

fn module(directories: &[&str], file: &str) -> String {
    for directory in directories {
        let path = Path::new(directory).join(file);
        if path.is_file() {
            return path.display().to_string();
        }
    }
    panic!("{file} is not installed: run scripts/test-servers");
}

pub(super) fn nginx(home: &Path, port: u16, is_guarded: bool) -> (Command, Option<PathBuf>) {
    let module = module(
        &["/usr/lib/nginx/modules", "/usr/share/nginx/modules", "/usr/lib64/nginx/modules"],
        "ngx_http_dav_ext_module.so",
    );
    let home = home.display();
    let user = if is_root() { "user root;" } else { "" };
    let (tls, guard) = if is_guarded {
        let files = format!("ssl_certificate {home}/cert.pem; ssl_certificate_key {home}/key.pem;");
        let guard = format!(
            "{files} auth_basic dewfs; auth_basic_user_file {home}/users;
             location /downgraded/ {{ return 307 http://127.0.0.1:1/; }}"
        );
        (" ssl", guard)
    } else {
        ("", String::new())
    };
    let config = format!(
        "load_module {module};
         daemon off; master_process off; worker_processes 1; pid {home}/pid; {user}
         error_log {home}/error.log;
         events {{ worker_connections 512; }}
         http {{
           log_format short '\"$request\" $status $body_bytes_sent';
           access_log {home}/access.log short; default_type application/octet-stream;
           client_body_temp_path {home}/body; proxy_temp_path {home}/proxy;
           fastcgi_temp_path {home}/fastcgi; uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
           dav_ext_lock_zone zone=locks:10m;
           server {{
             listen 127.0.0.1:{port}{tls}; {guard} root {home}/root; client_max_body_size 0;
             location / {{
               dav_methods PUT DELETE MKCOL COPY MOVE;
               dav_ext_methods PROPFIND OPTIONS LOCK UNLOCK; dav_ext_lock zone=locks;
             }}
           }}
         }}"
    );
    let file = format!("{home}/nginx.conf");
    fs::write(&file, config).unwrap();
    let mut command = Command::new(program(&["nginx"]));
    command.args(["-c", &file, "-p", &home.to_string(), "-e", &format!("{home}/error.log")]);
    (command, Some(PathBuf::from(format!("{home}/access.log"))))
}

pub(super) fn apache(home: &Path, port: u16) -> (Command, Option<PathBuf>) {
    let mut config = String::new();
    for name in ["mpm_event", "authz_core", "log_config", "dav", "dav_fs", "dav_lock"] {
        let places = ["/usr/lib/apache2/modules", "/usr/lib64/httpd/modules"];
        let compiled_in = name == "log_config";
        if compiled_in && !Path::new(places[0]).join("mod_log_config.so").is_file() {
            continue;
        }
        let file = module(&places, &format!("mod_{name}.so"));
        config.push_str(&format!("LoadModule {name}_module {file}\n"));
    }
    give_to_www_data(home);
    give_to_www_data(&home.join("root"));
    let shown = home.display();
    let user = if is_root() { "User www-data\nGroup www-data" } else { "" };
    config.push_str(&format!(
        "ServerRoot {shown}
         ServerName 127.0.0.1
         Listen 127.0.0.1:{port}
         PidFile {shown}/pid
         Mutex file:{shown}
         {user}
         ErrorLog {shown}/error.log
         LogFormat \"\\\"%r\\\" %>s %B\" short
         CustomLog {shown}/access.log short
         DavLockDB {shown}/DavLock
         DocumentRoot {shown}/root
         LimitXMLRequestBody 0
         AllowEncodedSlashes NoDecode
         <Directory {shown}/root>
           Dav On
           FileETag MTime Size
           Require all granted
         </Directory>\n"
    ));
    let file = home.join("httpd.conf");
    fs::write(&file, config).unwrap();
    let mut command = Command::new(program(&["apache2", "httpd"]));
    command.args(["-D", "FOREGROUND", "-f"]).arg(file);
    (command, Some(home.join("access.log")))
}

/// Its stat cache is off: with it, what is put there behind its back is served under the old ETag for a second.
pub(super) fn lighttpd(home: &Path, port: u16) -> (Command, Option<PathBuf>) {
    let shown = home.display();
    let config = format!(
        "server.modules = (\"mod_access\", \"mod_accesslog\", \"mod_webdav\", \"mod_staticfile\")
         server.document-root = \"{shown}/root\"
         server.bind = \"127.0.0.1\"
         server.port = {port}
         server.errorlog = \"{shown}/error.log\"
         server.stat-cache-engine = \"disable\"
         server.upload-dirs = (\"{shown}\")
         accesslog.format = \"\\\"%r\\\" %s %b\"
         accesslog.filename = \"{shown}/access.log\"
         webdav.activate = \"enable\"
         webdav.sqlite-db-name = \"{shown}/webdav.db\"
         mimetype.assign = (\"\" => \"application/octet-stream\")\n"
    );
    let file = home.join("lighttpd.conf");
    fs::write(&file, config).unwrap();
    let mut command = Command::new(program(&["lighttpd"]));
    command.arg("-D").arg("-f").arg(file);
    (command, None) // its log is written only now and then
}

pub(super) fn rclone(home: &Path, port: u16, manner: Manner) -> (Command, Option<PathBuf>) {
    let mut command = Command::new(program(&["rclone"]));
    command.args(["serve", "webdav", "--vfs-cache-mode", "writes"]);
    if manner != Manner::Dated {
        command.args(["--etag-hash", "auto"]);
    }
    // Changes behind its back are seen at once, and uploads are on disk when they are answered. With "0s" rclone 1.75 forgets
    // its folders without a pause and ends itself where there are many of them ("concurrent map iteration and map write" in
    // vfs.(*Dir).ForgetAll, which takes no lock).
    let kept = if manner == Manner::Remembering { "1m" } else { "0s" };
    command.args(["--dir-cache-time", kept, "--poll-interval", "0", "--vfs-write-back", "0s"]);
    command.arg("--addr").arg(format!("127.0.0.1:{port}"));
    command.arg("--cache-dir").arg(home.join("cache")).arg("--config").arg(home.join("config"));
    command.arg(home.join("root"));
    (command, None)
}
