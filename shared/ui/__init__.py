"""What people see that is made of templates: mails, and later pages."""
